"""What transfers give back."""

from __future__ import annotations

from pathlib import Path

import pytest

import getm
from getm.integrity.verdict import unverified

VERDICTS = [unverified("the server declared no checksum"), getm.Verdict(True, None, "caller", None)]
PATHS = [Path("reads.bam"), Path("/data") / ("a" * 255), Path("/data") / ("\x01\udcff" * 80), Path("/data/ü")]


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("path", PATHS)
def test_a_result_is_shown_in_less_than_a_line(path: Path, verdict: getm.Verdict) -> None:
    result = getm.DownloadResult(path, 2**63, verdict, verdict.verified, 1 / 3, getm.Stats(seconds=1 / 3), url="u" * 99)
    failure = getm.DownloadFailure(3, "https://h/" + "x" * 99, path, getm.GetmError("a sentence " * 30))
    unnamed = getm.DownloadFailure(3, "https://h/" + "x" * 99, None, getm.HTTPStatusError("the server answered 404"))
    for shown in (repr(result), repr(failure), repr(unnamed)):
        assert len(shown) < 100 and shown.isprintable() and shown.endswith(")")
    assert ("not verified" in repr(result)) is not verdict.verified
    assert "HTTPStatusError: the server answered 404)" in repr(unnamed)


def test_results_are_shown_by_what_they_are() -> None:
    stats = getm.Stats()
    result = getm.DownloadResult(Path("in/reads.bam"), 23, VERDICTS[0], False, 0.5, stats)
    assert repr(result) == "DownloadResult('reads.bam', 23 bytes, not verified)"
    failure = getm.DownloadFailure(0, "https://h/x", Path("in/x"), getm.TimedOut("no response within 3 s"))
    assert repr(failure) == "DownloadFailure('x', TimedOut: no response within 3 s)"
    assert repr(VERDICTS[0]) == "<Verdict not verified: the server declared no checksum>"
