"""What `import getm` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import getm

# The whole public surface, in alphabetical order. A name added or removed here is a line in CHANGELOG.md.
PUBLIC = [
    "AsyncContentIterator",
    "AsyncUnorderedIterator",
    "Checksum",
    "ChecksumMismatch",
    "ContentIterator",
    "DownloadFailure",
    "DownloadResult",
    "EngineDied",
    "Entry",
    "Event",
    "Failed",
    "Finished",
    "GetmError",
    "HTTPStatusError",
    "InvalidInput",
    "NetworkError",
    "Planned",
    "Progressed",
    "Reader",
    "RemoteChanged",
    "Retried",
    "Retries",
    "Session",
    "Skipped",
    "SlotsExhausted",
    "Started",
    "Stats",
    "Timeout",
    "UnorderedIterator",
    "Verdict",
    "__version__",
    "adownload",
    "adownload_all",
    "aiter_content",
    "aiter_content_unordered",
    "checksum",
    "close",
    "download",
    "download_all",
    "errors",
    "iter_content",
    "iter_content_unordered",
    "read",
    "urlopen",
]


def test_public_names() -> None:
    assert sorted(getm.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(getm, name) is not None


def test_import_loads_no_heavy_package() -> None:
    heavy = ("aiohttp", "uvloop", "rich", "numpy")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, getm; print([name for name in {heavy} if name in sys.modules])"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_version_is_the_installed_one() -> None:
    assert getm.__version__ == metadata.version("getm")
