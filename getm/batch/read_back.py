"""Files of which no engine has seen all bytes are read back: an earlier run, or an engine that died, brought a part."""

from __future__ import annotations

from collections.abc import Sequence

from getm.files.partial import PartialFile
from getm.integrity.declared.types import Declared
from getm.integrity.files import check_file
from getm.integrity.values import parse_checksum
from getm.integrity.verdict import Verdict, unverified


def read_back(partial: PartialFile, declared: Sequence[tuple[str, str]], *, blocks: bool, unread: Verdict) -> Verdict:
    """The verdict on a complete file, by reading it. Raises OSError.

    Args:
        partial: The file.
        declared: The checksums of the last response, each with its source, as an engine says them.
        blocks: Whether the CRC of each block is wanted.
        unread: The verdict without reading it, which has why nothing verifies it.
    """
    # A partial response may declare less than the first one did.
    saved = partial.declared
    declared = declared or (() if saved is None else (saved,))
    if not (declared or blocks):
        return unread
    expected = (Declared(parse_checksum(text), source) for text, source in declared)
    verdict = check_file(partial.path_now, expected, blocks=blocks)
    return verdict if declared else unverified(unread.reason or "", blocks=verdict.blocks)
