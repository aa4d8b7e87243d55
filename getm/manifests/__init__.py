"""Lists of downloads in every form that people have them: read and checked as a whole before the first request."""

from getm.manifests.detect import FORMATS
from getm.manifests.entry import Entry
from getm.manifests.entry_list import EntryList, check_list
from getm.manifests.read import read_list
from getm.manifests.table_columns import Columns, parse_columns

__all__ = ["FORMATS", "Columns", "Entry", "EntryList", "check_list", "parse_columns", "read_list"]
