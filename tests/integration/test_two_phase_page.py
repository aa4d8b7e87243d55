"""docs/two-phase.md: every example is run, and commits nothing of an object that differs from what is declared."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from getm.integrity.values import Checksum
from tests.integration.test_readme import ROOT, Example, output_of, read_examples
from tests.support.nginx import NginxServer

_HOST = "https://data.example.org/"
EXAMPLES = list(read_examples((ROOT / "docs" / "two-phase.md").read_text()))


@pytest.fixture(scope="module")
def urls(nginx: NginxServer) -> dict[str, str]:
    """The URLs of what stands at the example host, by name."""
    # Larger than a ring: most of it is given out before it is verified.
    table = "".join(f"{number},{number * number}\n" for number in range(500_000)).encode()
    contents = {
        "csv": (table, table.replace(b"250000,62500000000\n", b"250000,62500000009\n")),
        # Decompressed, both are the same: only the checksum shows that they are not.
        "csv.gz": (gzip.compress(table, 0, mtime=0), gzip.compress(table, 0, mtime=1)),
        "f16": (np.full(4_000_000, 0.5, dtype=np.float16).tobytes(), np.ones(4_000_000, dtype=np.float16).tobytes()),
    }
    names = {"csv": "table", "csv.gz": "table", "f16": "halves"}
    found = {}
    for suffix, (good, bad) in contents.items():
        declared = None
        for name, content in ((names[suffix], good), ("damaged", bad)):
            item = nginx.objects.write(f"{name}.{suffix}", content)
            declared = declared or Checksum("crc32c", item.crc32c)
            found[f"{name}.{suffix}"] = nginx.declared_url(item, tls=True, goog_hash=f"crc32c={declared.base64}")
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"line-{example.line}")
def test_example_prints_what_the_page_shows(
    example: Example, urls: dict[str, str], tmp_path: Path, nginx: NginxServer
) -> None:
    code = example.code
    # The longest first: some names begin as others do.
    for name in sorted(urls, key=len, reverse=True):
        code = code.replace(f'"{_HOST}{name}"', f'"{urls[name]}"')
    assert _HOST not in code
    environment = {"SSL_CERT_FILE": str(nginx.ca_path), "PYTHONPATH": str(ROOT)}
    assert output_of([sys.executable, "-W", "error", "-c", code], tmp_path, environment) == (0, example.prints)
