"""What to say of text that is no http(s) URL: what was probably meant, and what to do with URLs of other schemes.

Imported where a URL is refused only.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from difflib import get_close_matches
from urllib.parse import quote, unquote

from getm.core.redact import redact

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
# "https//host", "http:host", "https:/host", "http:\\host": something about the slashes is wrong.
_BROKEN_START = re.compile(r"(https?)(?::?[/\\]+|:)", re.IGNORECASE)
_PORT = re.compile(r"[0-9]{1,5}(?:[/?#]|$)")
_SCP = re.compile(r"[^/\s]*@[^/\s:]+:(?!//)")
_PATH = re.compile(r"/(?!/)|\.{1,2}/|~|[A-Za-z]:[\\/](?!/)|\\\\")
_LOOPBACK = re.compile(r"(?:localhost|127\.[0-9.]+|\[::1\])(?:[:/?#]|$)", re.IGNORECASE)
_S3 = re.compile(r"s3[an]?://([^/?#]+)/?([^?#]*)", re.IGNORECASE)
_GS = re.compile(r"gs://([^/?#]+)/?([^?#]*)", re.IGNORECASE)
_HF = re.compile(r"hf://((?:datasets/|spaces/)?[^/@?#]+/[^/@?#]+)(?:@([^/?#]+))?/([^?#]+)", re.IGNORECASE)


def not_http(url: str) -> str:
    """Why `url`, which has another scheme than http and https, or no host, cannot be used, and what to give instead."""
    shown = redact(url)
    if not url.strip():
        return "the URL is empty, expected an http or https URL: is a variable not set?"
    broken = _BROKEN_START.match(url)
    if broken is not None and shown[broken.end() :].strip("/"):
        return f"the URL is malformed; did you mean {broken[1].lower()}://{shown[broken.end() :].lstrip('/')}?"
    if _PATH.match(url):
        return "expected an http or https URL, got a path"
    if _SCP.match(url):
        return "expected an http or https URL, got a place as scp and rsync take it"
    found = _SCHEME.match(url)
    scheme = "" if found is None else found[1].lower()
    if scheme in ("http", "https"):
        return "the URL has no host"
    if found is None or (_PORT.match(url, found.end()) and "//" not in url[: found.end() + 2]):
        guess = shown.lstrip("/")
        usual = "http" if _LOOPBACK.match(guess) else "https"
        return f"the URL has no scheme; did you mean {usual}://{guess}?"
    if advice := advice_for(url):
        return f"expected an http or https URL, got the scheme {scheme!r}: {advice}"
    rest = shown[found.end() :].lstrip("/")
    if close := get_close_matches(scheme, ("https", "http"), 1, cutoff=0.7):
        return f"there is no scheme {scheme!r}; did you mean {close[0]}://{rest}?"
    return f"expected an http or https URL, got the scheme {scheme[:20]!r}, for which no resolver is installed"


# What to do with URLs of other schemes -------------------------------------------------------------------------------


def advice_for(url: str) -> str | None:
    """What to do with a URL of another scheme; None where nothing is known of that."""
    scheme = url.partition(":")[0].lower()
    return _ADVICE[scheme](url) if scheme in _ADVICE else None


def _path(text: str) -> str:
    return quote(unquote(text), safe="/~")


def _s3(url: str) -> str:
    signed = f"sign it (aws s3 presign {shlex.quote(redact(url))})"
    found = _S3.match(url)
    if found is None or not found[2]:
        return f"give an https URL of an object, or {signed}"
    bucket, key = found[1], _path(found[2])
    # A wildcard certificate is for one label (RFC 9525, section 6.3).
    place = f"s3.amazonaws.com/{bucket}" if "." in bucket else f"{bucket}.s3.amazonaws.com"
    return f"if the object is public, did you mean https://{place}/{key}? Otherwise {signed}"


def _gs(url: str) -> str:
    signed = f"sign it (gcloud storage sign-url {shlex.quote(redact(url))})"
    found = _GS.match(url)
    if found is None or not found[2]:
        return f"give an https URL of an object, or {signed}"
    place = f"https://storage.googleapis.com/{found[1]}/{_path(found[2])}"
    return f"if the object is public, did you mean {place}? Otherwise {signed}"


def _azure(url: str) -> str:
    return (
        "give the https URL of the blob, with a shared access signature where it is not public "
        "(az storage blob generate-sas --full-uri)"
    )


def _hugging_face(url: str) -> str:
    found = _HF.match(url)
    if found is None:
        return "give the https URL of a file (https://huggingface.co/OWNER/REPO/resolve/main/FILE)"
    return f"did you mean https://huggingface.co/{found[1]}/resolve/{found[2] or 'main'}/{_path(found[3])}?"


def _name(url: str) -> str:
    return "such a name stands alone: it has no mirrors, and is none"


def _ftp(url: str) -> str:
    return f"many archives have the same files over https: did you mean https://{redact(url).partition('://')[2]}?"


def _file(url: str) -> str:
    return "a local file needs no download: getm hash and getm verify take its path"


def _other_tool(tool: str) -> Callable[[str], str]:
    return lambda url: f"use {tool}"


_ADVICE: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(("s3", "s3a", "s3n"), _s3),
    "gs": _gs,
    **dict.fromkeys(("az", "abfs", "abfss"), _azure),
    **dict.fromkeys(
        ("azure", "adl", "wasb", "wasbs"), lambda url: "give it as az://CONTAINER@ACCOUNT.blob.core.windows.net/BLOB"
    ),
    "hf": _hugging_face,
    **dict.fromkeys(("drs", "doi"), _name),
    **dict.fromkeys(("ftp", "ftps"), _ftp),
    "file": _file,
    "magnet": _other_tool("aria2c"),
    **{scheme: _other_tool(scheme) for scheme in ("sftp", "scp", "rsync")},
}
