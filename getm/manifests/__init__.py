"""Lists of downloads in every form that people have them: read as they come, checked whole before the first request."""

from getm.manifests.columns import Columns, parse_columns
from getm.manifests.entries import EntryList
from getm.manifests.entry import Entry
from getm.manifests.formats import FORMATS
from getm.manifests.open import open_list

__all__ = ["FORMATS", "Columns", "Entry", "EntryList", "open_list", "parse_columns"]
