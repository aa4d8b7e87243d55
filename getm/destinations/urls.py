"""The URLs of destinations: what they name, and what of them may be shown."""

from __future__ import annotations

import re
from importlib.util import find_spec
from urllib.parse import unquote

from getm.core.url_path import is_url
from getm.errors import InvalidInput, MissingExtra

S3_SCHEMES = ("s3", "s3a", "s3n")
_FILE_SCHEMES = ("file", "local")
_WEB_SCHEMES = ("http", "https", "getm+http", "getm+https", "data")
# What follows their names is a key, in which "?" and "#" are characters as others.
_KEYS = (*S3_SCHEMES, "gs", "gcs", "memory")
# "user:password@host": a password may hold an unencoded "/" or "@".
_LOGIN = re.compile(r"(?<=://)[^/]*:.*@")


def scheme_of(url: str) -> str:
    """The scheme in lower case: of a chain of protocols, the first one."""
    return re.split("::|://", url, maxsplit=1)[0].lower()


def as_destination(path: str) -> str:
    """A destination as it was given: a path, or the URL of an object or of a folder of them. A file's URL is its path.

    Raises:
        InvalidInput: Nothing can be written to such a URL.
    """
    if not is_url(path):
        return path
    scheme = scheme_of(path)
    if scheme in _WEB_SCHEMES:
        raise InvalidInput(f"nothing can be written to {scheme}:// URLs: give a path, or a URL like s3://bucket/key")
    if scheme in _FILE_SCHEMES and "::" not in path:
        local = path.partition("://")[2]
        if not local.startswith("/"):
            raise InvalidInput(f"a file's URL has no host: expected file:///folder/name, got {path[:60]!r}")
        return unquote(local) if scheme == "file" else local
    if scheme in S3_SCHEMES:
        s3_place(path)
    return path


def require(url: str) -> None:
    """Raises `MissingExtra` where a package for such URLs is missing, `InvalidInput` where there is none. Imports
    little for that."""
    scheme = scheme_of(url)
    if scheme in S3_SCHEMES:
        if find_spec("botocore") is None:
            raise MissingExtra('s3:// needs the package "botocore": pip install "getm[s3]"')
    elif find_spec("fsspec") is None:
        raise MissingExtra(f'{scheme}:// needs the package "fsspec": pip install "getm[fsspec]"')
    else:
        from fsspec.registry import known_implementations, registry

        # Those that may be installed, and those that a program has registered.
        if scheme not in known_implementations and scheme not in registry:
            raise InvalidInput(f"nothing is known of {scheme}:// URLs: give a path, s3://, or a URL that fsspec knows")


def is_writable(url: str) -> bool:
    """Whether there is, or could be with another package, a way to write to such URLs."""
    try:
        require(url)
    except MissingExtra:
        return True
    except InvalidInput:
        return False
    return scheme_of(url) not in _WEB_SCHEMES


def s3_place(url: str) -> tuple[str, str]:
    """Bucket and key of an S3 URL. Raises `InvalidInput`."""
    bucket, _, key = url.partition("://")[2].partition("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._\-]{1,62}", bucket):
        raise InvalidInput(f"expected s3://BUCKET/KEY, got the bucket {bucket[:70]!r}")
    if len(key.encode("utf-8", "surrogateescape")) > 1024:
        raise InvalidInput("a key of S3 has at most 1,024 bytes of UTF-8; give a shorter one")
    return bucket, key


def is_folder(url: str) -> bool:
    """Whether it names a folder, for objects with names of their own."""
    return url.endswith("/") or (scheme_of(url) in S3_SCHEMES and not s3_place(url)[1])


def in_folder(folder: str, relative: str) -> str:
    """The URL of an object below a folder's."""
    return f"{folder}{'' if folder.endswith('/') else '/'}{relative}"


def shown(url: str) -> str:
    """What may be shown of it: no password, and no query, which may be a signature."""
    safe = _LOGIN.sub("", url)
    return safe if scheme_of(url) in _KEYS else re.split(r"[?#]", safe, maxsplit=1)[0]
