"""The names of objects in a program's arguments, and their replacement. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

# RFC 3986, section 3.1; and something behind it.
_BEGINS = r"[A-Za-z][A-Za-z0-9+.\-]*://(?=[^\s/])"
# What may stand before a name that is the rest of an argument: an option or a key (`--ref=NAME`, `-iNAME`), and what
# says how to read it (`/vsicurl/NAME` for GDAL, `cache:NAME` for ffmpeg). As little of that as possible: a URL may have
# another one in its query.
_BEFORE = r"(?:-[A-Za-z]|[^\s'\"=]*=|/vsi[a-z0-9_]+/|[a-z]+:)*?"
_ALONE = re.compile(rf"({_BEFORE})({_BEGINS}.+)", re.IGNORECASE | re.DOTALL)
# What stands between names in one argument: htslib's sign for an index, and the ones that lists have.
_SEPARATOR = re.compile(rf"(##idx##|[|,])(?={_BEGINS})")
# In text such as SQL or a shell's command.
_IN_TEXT = re.compile(
    rf"(?<=')(?:{_BEGINS}[^']+)(?=')|(?<=\")(?:{_BEGINS}[^\"]+)(?=\")|"
    rf"(?<![A-Za-z0-9+.\-]){_BEGINS}[^\s'\"|;&<>()`]+"
)
_IS_LIST = re.compile(rf"\s{_BEGINS}")


def replace_names(argument: str, local: Callable[[str], str]) -> str:
    """The argument of a program with `local` of each name in it: of anything that begins like a URL.

    A name is the whole argument, or the rest of it after `OPTION=` and the like; or it is quoted, or a word, in text.
    """
    alone = _ALONE.fullmatch(argument)
    # `--ref=s3://bucket/a key` is one name; in `X=s3://bucket/key; view $X` the blank ends it.
    is_text = alone is not None and alone[1] and not argument.startswith("-") and re.search(r"\s", argument)
    if alone is None or is_text or _IS_LIST.search(argument):
        return _IN_TEXT.sub(lambda found: local(found[0]), argument)
    # Names, and in turn what is between them.
    pieces = _SEPARATOR.split(alone[2])
    return alone[1] + "".join([piece if number % 2 else local(piece) for number, piece in enumerate(pieces)])
