"""The list of faults that getm must survive has 56 rows: each of them has a test that is named for it."""

from __future__ import annotations

import re
from pathlib import Path

ROWS = range(1, 57)
# `test_row_19_...` stands for one row, whatever numbers follow; `test_rows_2_3_5_...` for several.
_NAMED = re.compile(r"^(?:async )?def test_(?:row_(\d+)|rows_(\d+(?:_\d+)+))_", re.MULTILINE)


def test_every_row_has_a_test_of_its_name() -> None:
    found = {
        int(number)
        for path in Path(__file__).parents[1].rglob("test_*.py")
        for match in _NAMED.finditer(path.read_text())
        for number in (match[1] or match[2]).split("_")
    }
    assert found == set(ROWS)
