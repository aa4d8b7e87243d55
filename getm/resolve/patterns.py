"""Names that stand for several objects: wildcards, and a slash at the end. Pure decisions, no I/O.

| in a pattern | stands for |
|---|---|
| `*` | any characters within one part of a path |
| `?` | one character. None in a URL, where it begins a query; nor where `NAME=` follows, as in "?versionId=..." |
| `[abc]`, `[a-z]`, `[!abc]` | one of these characters, or one that is none of them |
| `**` | any characters, also over several folders |
| `/` at the end | everything below |

An object that is called exactly as the pattern is written matches as well; `[*]` is an asterisk, `[[]` a bracket.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple
from urllib.parse import unquote

from getm.resolve.request import is_http

_CLASS = r"\[[!^]?[^/][^\]/]*\]"
_WILD = re.compile(rf"\*|\?(?!\w+=)|{_CLASS}")
_WILD_IN_URL = re.compile(rf"\*|{_CLASS}")
# Folders, or none; anything; anything in one part; one character; one of a class.
_TOKEN = re.compile(
    rf"(?P<folders>(?:(?<=/)|\A)\*\*/)|(?P<all>\*\*)|(?P<part>\*)|(?P<one>\?(?!\w+=))|(?P<class>{_CLASS})"
)
_REGEX = {"folders": "(?:[^/]*/)*", "all": ".*", "part": "[^/]*", "one": "[^/]"}
_BUCKET = re.compile(r"[a-z]+://[^/]+", re.IGNORECASE)
# What is listed as a whole without a slash at its end, and has no wildcards: a bucket, a repository, a deposit.
_ROOTS = {
    **dict.fromkeys(("gs", "az", "abfs", "abfss"), _BUCKET),
    "s3": re.compile(r"s3://(?:arn:[^/]+(?:[:/])[^/]+|[^/]+)", re.IGNORECASE),
    "hf": re.compile(
        r"hf://(?:(?:datasets|spaces)/|(?!(?:datasets|spaces)/))[^/@]+/[^/@]+(?:@(?:refs/(?:pr|convert)/[^/]+|[^/]+))?",
        re.IGNORECASE,
    ),
    # A DOI of Dataverse has a slash after the mark of its owner.
    "doi": re.compile(r"doi:(?://)?10\.[0-9.]+/(?:(?:DVN|FK2)/)?[^/]+", re.IGNORECASE),
}
_ANY_ROOT = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^/]*")

Matches = Callable[[str], bool]


class Pattern(NamedTuple):
    """`folder` has no wildcards and ends with a slash; `parts` is the path below it, of which the first has one.
    Without parts, everything in the folder is meant."""

    folder: str
    parts: tuple[str, ...]


def names_several(name: str) -> bool:
    """Whether it has wildcards, ends with a slash, or is a whole bucket or repository."""
    if is_http(name) and ("?" in name or "#" in name):
        return False
    return name.endswith("/") or is_root(name) or _wild(name) is not None


def is_root(name: str) -> bool:
    """Whether it is a whole bucket or repository, without a slash at the end."""
    root = _ROOTS.get(name.partition(":")[0].lower())
    return root is not None and root.fullmatch(name) is not None


def split_pattern(name: str) -> Pattern:
    """The folder of a pattern, and the rest of it."""
    wild = _wild(name)
    if wild is None:
        return Pattern(name if name.endswith("/") else f"{name}/", ())
    start = name.rfind("/", 0, wild) + 1
    return Pattern(name[:start], tuple(name[start:].split("/")))


def has_wild_root(name: str) -> bool:
    """Whether a wildcard stands where none may: in the name of a bucket, a repository, a host."""
    wild = _wild(name)
    if wild is None:
        return False
    found = _ROOTS.get(name.partition(":")[0].lower(), _ANY_ROOT).match(name)
    # With "hf://org/*" there is no repository.
    return found is None or wild <= found.end()


def is_wild(part: str, *, in_url: bool) -> bool:
    """Whether a part of a path has wildcards."""
    return (_WILD_IN_URL if in_url else _WILD).search(part) is not None


def literal_start(part: str) -> str:
    """What a part of a path begins with, up to its first wildcard."""
    found = _WILD.search(part)
    return part if found is None else part[: found.start()]


def matcher(pattern: str, *, in_url: bool = False) -> Matches:
    """Whether a path matches. `in_url`: in either form, percent-encoded or not."""
    regex = re.compile(_regex(pattern, in_url=in_url), re.DOTALL)
    if in_url:
        return lambda path: path == pattern or bool(regex.fullmatch(path) or regex.fullmatch(unquote(path)))
    return lambda path: path == pattern or regex.fullmatch(path) is not None


def filter_of(include: Iterable[str], exclude: Iterable[str]) -> Matches:
    """Whether a path, relative to what is listed, is wanted: it matches one of `include`, if there are any, and none of
    `exclude`. A pattern without a slash is for names of files in any folder; one that ends with its only slash, for all
    that is in a folder of that name; any other for the whole path."""
    included, excluded = list(map(_filter, include)), list(map(_filter, exclude))

    def wanted(path: str) -> bool:
        return (not included or any(matches(path) for matches in included)) and not any(
            matches(path) for matches in excluded
        )

    return wanted


def _filter(pattern: str) -> Matches:
    anchored = "/" in pattern.rstrip("/")
    text = pattern.removeprefix("/") + ("**" if pattern.endswith("/") else "")
    return matcher(text if anchored else f"**/{text}")


def _wild(name: str) -> int | None:
    if is_http(name):
        # Behind the host, which may be an address in brackets.
        root = _ANY_ROOT.match(name)
        found = _WILD_IN_URL.search(name, 0 if root is None else root.end())
    else:
        found = _WILD.search(name)
    return None if found is None else found.start()


def _regex(pattern: str, *, in_url: bool) -> str:
    """The regular expression of a pattern.

    Of two wildcards the first one need not try more than its shortest match, where the second one takes what it would
    leave: an atomic group. Otherwise a name of many characters could take for ever.
    """
    pieces, end = [], 0
    # Where the last wildcard for any number of characters is, and which kind it has.
    star, open_kind = 0, ""
    for found in _TOKEN.finditer(pattern):
        kind = found.lastgroup or ""
        pieces.append(re.escape(pattern[end : found.start()]))
        end = found.end()
        if kind == "class":
            pieces.append(_class(found[0][1:-1]))
        elif kind == "one":
            pieces.append(re.escape("?") if in_url else _REGEX[kind])
        else:
            if open_kind == "part" or open_kind == kind == "all":
                pieces[star] = f"(?>{pieces[star]}?"
                pieces.append(")")
            star, open_kind = len(pieces), kind
            pieces.append(_REGEX[kind])
    return "".join(pieces) + re.escape(pattern[end:])


def _class(text: str) -> str:
    """The regular expression of "a-z" or "!a-z"."""
    is_negated = text[0] in "!^"
    ranges, rest = [], text[1:] if is_negated else text
    while rest:
        if len(rest) > 2 and rest[1] == "-":
            low, high, rest = rest[0], rest[2], rest[3:]
            if low <= high:
                ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append(re.escape(rest[0]))
            rest = rest[1:]
    if not ranges:
        # All of its ranges are empty.
        return "[^/]" if is_negated else "(?!)"
    # Never a slash: "[!a]" is a character of one part.
    return f"(?!/)[{'^' if is_negated else ''}{''.join(ranges)}]"
