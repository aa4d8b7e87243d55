"""The one place that takes the secrets out of a URL."""

from __future__ import annotations

from urllib.parse import urlsplit


def redact(url: str) -> str:
    """`url` without userinfo, query and fragment: what may stand in a log, an error or a file's name.

    A signed URL carries its secret in the query (AWS SigV4, GCS V4, Azure SAS) or in the userinfo. Text that is no URL
    comes back without anything from the first "?" or "#" on.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url.split("?", 1)[0].split("#", 1)[0].rpartition("@")[2]
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if port is not None:
        host = f"{host}:{port}"
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else f"{host}{parts.path}"
