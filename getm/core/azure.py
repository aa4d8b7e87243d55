"""Azure Blob Storage: the hosts that it has, and the version of its protocol that requests ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable

VERSION_FIELD = "x-ms-version"
VERSION = "2020-10-02"
"""Tokens need a version (Azure, "Authorize with Microsoft Entra ID"), and so do public objects: without one, answers
are those of 2009, with no quotes around the ETag and no ranges without an end. What is chosen is old enough for every
server, Azure Stack Hub included, and refuses what is not public by a 401."""

# An account's hosts: of the public cloud and of the national ones, with or without a DNS zone, and of OneLake. Those of
# Data Lake Storage (dfs) have the same objects as those of Blob Storage.
_HOST = re.compile(
    r"([a-z0-9\-]+(?:\.z[0-9]+)?)\.(?:blob|dfs)\."
    r"(core\.windows\.net|core\.chinacloudapi\.cn|core\.usgovcloudapi\.net|storage\.azure\.net|fabric\.microsoft\.com)",
    re.IGNORECASE,
)
_BLOB_URL = re.compile(r"https?://([a-z0-9.\-]+\.blob\.[a-z.]+)(?::[0-9]+)?/", re.IGNORECASE)


def blob_host(host: str) -> tuple[str, str] | None:
    """The account that has `host`, and its host for Blob Storage; None where it is none of Azure's."""
    found = _HOST.fullmatch(host)
    if found is None:
        return None
    return found[1].partition(".")[0].lower(), f"{found[1]}.blob.{found[2]}".lower()


def wants_version(url: str, headers: Iterable[tuple[str, str]]) -> bool:
    """Whether a request to `url` with these header fields lacks the version: one of Azure's objects by a URL without a
    shared access signature, which has a version of its own (Azure, "Versioning for Azure Storage")."""
    found = _BLOB_URL.match(url)
    if found is None or blob_host(found[1]) is None or re.search(r"[?&]s(?:ig|v)=", url):
        return False
    return not any(name.lower() == VERSION_FIELD for name, _ in headers)
