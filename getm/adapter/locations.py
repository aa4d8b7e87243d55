"""Which local URL stands for which object: paths to names, and back. Pure.

The path of a local URL is a token, a number for the root (scheme and host, or bucket, ...), and the path of the object
there. So programs find what is beside an object by its URL, as they do at the origin: `x.bam.bai`, `x.fa.fai`, the
chunks below `x.zarr`, the segments that a playlist names relative to itself. Queries are kept out: those of signed URLs
are secret, and programs put what they append behind them.
"""

from __future__ import annotations

import hmac
import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from getm.core.signed_url import find_signature

# What a path may have unencoded (RFC 3986, section 3.3), and the sign of what is encoded already.
_PATH_CHARACTERS = "/:@!$&'()*+,;=~"
_NAME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*:(?://[^/?#]*)?)(/?)(.*)", re.DOTALL)


class Location(NamedTuple):
    """The object of a local URL. `given`: the user has named it; otherwise it is beside one. `is_refused`: it is beside
    one with a signature, which is for that one alone. `is_missed`: and no other file beside that was given."""

    name: str
    given: bool = True
    is_refused: bool = False
    is_missed: bool = False


class _Root:
    """Where paths begin: `start` and a path are the name of an object."""

    def __init__(self, start: str) -> None:
        self.start = start
        # By their paths, decoded.
        self.given: dict[str, str] = {}

    @property
    def is_http(self) -> bool:
        return self.start.lower().startswith(("http:", "https:"))


class Locations:
    """The objects that are served, each at a path that begins with `token`."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._roots: list[_Root] = []
        self._beside: dict[str, str] = {}

    def add(self, name: str) -> str:
        """Serve the object of that name; returns its path."""
        start, path = _split(name)
        root = _Root(start)
        decoded = unquote(path) if root.is_http else path
        # One of the same path that differs in its query has a root of its own.
        same = [each for each in self._roots if each.start == start and each.given.get(decoded, name) == name]
        if same:
            root = same[0]
        else:
            self._roots.append(root)
        root.given[decoded] = name
        number = self._roots.index(root)
        safe = _PATH_CHARACTERS + ("%" if root.is_http else "")
        return f"/{self._token}/{number}/{quote(path, safe=safe)}"

    def add_beside(self, name: str, file_name: str | None = None) -> None:
        """Serve the object of that name as a file beside each of the others, whose programs ask for `file_name`
        there (default: its own)."""
        self._beside[file_name or unquote(_split(name)[1]).rpartition("/")[2]] = name

    def find(self, path: str) -> Location | None:
        """What is at a path, as it came in a request; None where there is nothing."""
        _, token, number, rest = (*path.split("/", 3), "", "", "")[:4]
        # In a time that does not tell how much of it is right.
        if not hmac.compare_digest(token.encode(errors="replace"), self._token.encode()):
            return None
        if not (number.isascii() and number.isdigit() and len(number) < 10 and int(number) < len(self._roots)):
            return None
        root, decoded = self._roots[int(number)], unquote(rest)
        folder, _, file_name = decoded.rpartition("/")
        if (given := root.given.get(decoded) or self._beside.get(file_name)) is not None:
            return Location(given)
        if not {".", ".."}.isdisjoint(decoded.split("/")) or "\0" in decoded:
            return None
        near = {each: name for each, name in root.given.items() if each.rpartition("/")[0] == folder}
        is_refused = any(find_signature(name) is not None for name in near.values())
        return Location(
            root.start + (rest if root.is_http else decoded),
            given=False,
            is_refused=is_refused,
            # A program tries several names: those that there are not are no news where another one is.
            is_missed=is_refused and len(near) == 1 and not self._beside,
        )


def _split(name: str) -> tuple[str, str]:
    """The root of a name, and the path below it without a query or a fragment."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError("a name begins with a scheme")
    scheme, slash, path = found.groups()
    folder, separator, last = path.rpartition("/")
    if scheme.lower().startswith(("http:", "https:")):
        return scheme + "/", re.split(r"[?#]", path, maxsplit=1)[0]
    # Names are no URLs: these characters may be part of a folder's name.
    return scheme + slash, folder + separator + re.split(r"[?#]", last, maxsplit=1)[0]
