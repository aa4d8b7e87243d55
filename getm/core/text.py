"""Text files of other programs: lists, checksum files."""

from __future__ import annotations

import codecs
import os

from getm.errors import InvalidInput

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
