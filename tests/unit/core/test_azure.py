"""Which hosts are Azure's, and which requests get the version of its protocol."""

from __future__ import annotations

import pytest

from getm.core.azure import blob_host, wants_version

HOST = "lab.blob.core.windows.net"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (HOST, ("lab", HOST)),
        ("Lab.DFS.core.windows.net", ("lab", HOST)),
        ("lab.z07.blob.storage.azure.net", ("lab", "lab.z07.blob.storage.azure.net")),
        ("onelake.dfs.fabric.microsoft.com", ("onelake", "onelake.blob.fabric.microsoft.com")),
        ("lab.blob.core.usgovcloudapi.net", ("lab", "lab.blob.core.usgovcloudapi.net")),
        ("lab.blob.core.windows.net.example.org", None),
        ("lab.blob.example.org", None),
        ("lab.queue.core.windows.net", None),
        ("blob.core.windows.net", None),
        ("a.b.blob.core.windows.net", None),
    ],
)
def test_hosts(host: str, expected: tuple[str, str] | None) -> None:
    assert blob_host(host) == expected


@pytest.mark.parametrize(
    ("url", "headers", "expected"),
    [
        (f"https://{HOST}/c/x", (), True),
        (f"https://{HOST.upper()}/c/x", (), True),
        (f"https://{HOST}:443/c/x?snapshot=2025", (), True),
        (f"https://{HOST}/c/x", (("Authorization", "Bearer x"),), True),
        (f"https://{HOST}/c/x", (("X-MS-Version", "2021-12-02"),), False),
        (f"https://{HOST}/c/x?sv=2021-12-02&sr=b&sig=x", (), False),
        ("https://example.org/lab.blob.core.windows.net/x", (), False),
        ("https://lab.blob.example.org/x", (), False),
    ],
)
def test_versions(url: str, headers: tuple[tuple[str, str], ...], expected: bool) -> None:
    assert wants_version(url, headers) == expected
