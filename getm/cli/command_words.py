"""The words of a command that an option gives."""

from __future__ import annotations

import shlex
import shutil

from getm.errors import InvalidInput


def command_words(command: str, option: str) -> list[str]:
    """`command` split as a shell would. Raises `InvalidInput` where that cannot be, or where there is no such
    command."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InvalidInput(f"{option}: the command cannot be split into words ({error})") from None
    if not words or shutil.which(words[0]) is None:
        name = words[0] if words else ""
        raise InvalidInput(f"{option}: there is no command {name!r}; for a shell's own give: sh -c '...' sh")
    return words
