"""Lists of downloads in every form that people have them: read as they come, checked whole before the first request."""

from getm.lists.columns import Columns, parse_columns
from getm.lists.entries import EntryList
from getm.lists.entry import Entry
from getm.lists.formats import FORMATS
from getm.lists.open import open_list

__all__ = ["FORMATS", "Columns", "Entry", "EntryList", "open_list", "parse_columns"]
