"""Text from outside: what servers send, made safe for messages and the pipe; files of other programs."""

from __future__ import annotations

import codecs
import os
import re

from getm.errors import InvalidInput

_MAX_CHARS = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")

UTF_16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode_text(data: bytes) -> str:
    """The text in `data`: UTF-8, with or without a byte order mark, or UTF-16 with one, as Windows writes it.

    Bytes that are not UTF-8 are kept as `os.fsdecode` keeps them, since names of files may hold any.

    Raises:
        InvalidInput: A byte order mark of UTF-16, and what follows is not UTF-16.
    """
    if not data.startswith(UTF_16_BOMS):
        return os.fsdecode(data.removeprefix(codecs.BOM_UTF8))
    try:
        return data.decode("utf-16")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"begins with the byte order mark of UTF-16 and is not UTF-16 ({error.reason}); save it as UTF-8"
        ) from error


def decode(data: bytes) -> str:
    """UTF-8 where it is valid, ISO-8859-1 otherwise: no byte is lost (RFC 9110, section 5.5)."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def encodable(text: str) -> str:
    """`text` with lone surrogates written out: Python keeps bytes in them that were not UTF-8, and no codec takes
    them."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def brief(text: str) -> str:
    """The start of `text` on one line, without control characters: what a server sent may be megabytes of anything."""
    line = _CONTROL.sub(" ", encodable(text[: _MAX_CHARS + 1])).strip()
    return line if len(text) <= _MAX_CHARS else f"{line[:_MAX_CHARS]}..."
