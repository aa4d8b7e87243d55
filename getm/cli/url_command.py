"""`--url-command CMD`: a command that prints the URL to download from, in the place of the one that was given.

It is split into words as a shell would, and started without one. Its last argument is the URL that was given, without
query and login: everyone on the machine can read a command line.
"""

from __future__ import annotations

import json
import subprocess
from datetime import datetime
from functools import partial
from typing import Any, Self

from getm.cli.command_words import command_words
from getm.core.redact import redact, redact_text
from getm.core.text import brief, decode
from getm.errors import CommandFailed, InvalidInput
from getm.manifests.entry import Entry
from getm.resolve.resource import Provider, Resource

_FIELDS = frozenset({"url", "headers", "checksums", "size", "expires_at", "mirrors", "advice"})

# Those under way.
_running: set[subprocess.Popen[bytes]] = set()


class URLCommand:
    """Runs `command` for the URLs of downloads, for `limit_s` seconds at most each time. A context manager: when it is
    left, those under way are ended.

    Raises:
        InvalidInput: There is no such command.
    """

    def __init__(self, command: str, limit_s: float | None) -> None:
        self._words = command_words(command, "--url-command")
        self._limit_s = limit_s

    def found(self, entry: Entry) -> Entry:
        """The entry, whose URL the command finds. Other processes can do that as well."""
        return entry.found_by(self.provider(entry.urls[0]))

    def provider(self, url: str) -> Provider:
        """What finds the URL to use in the place of `url`."""
        return partial(_run, self._words, redact(url), self._limit_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        for process in list(_running):
            process.terminate()


def _run(words: list[str], url: str, limit_s: float | None) -> Resource:
    process = subprocess.Popen([*words, url], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _running.add(process)
    try:
        printed, said = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise TimeoutError(f"the command {words[0]} took longer than {limit_s:g} s") from None
    finally:
        _running.discard(process)
    if process.returncode:
        last = brief(redact_text(decode(said).strip().rpartition("\n")[2]))
        # Its name only: its arguments may be secrets.
        message = f"the command {words[0]} (--url-command) ended with status {process.returncode}: {last}"
        raise CommandFailed(message.removesuffix(": "), path="", exit_status=process.returncode)
    return _resource(decode(printed).strip())


def _resource(printed: str) -> Resource:
    """What a command has printed. Raises `InvalidInput`, which does not quote it: it may be a secret."""
    if not printed.startswith("{"):
        if not printed or "\n" in printed:
            lines = printed.count("\n") + 1 if printed else 0
            raise InvalidInput(f"--url-command: expected one line with a URL, or a JSON object, got {lines} lines")
        return Resource(printed)
    try:
        fields: dict[str, Any] = json.loads(printed)
    except ValueError as error:
        raise InvalidInput(f"--url-command: what was printed is no JSON ({error})") from None
    if unknown := sorted(fields.keys() - _FIELDS):
        raise InvalidInput(f"--url-command: unknown key {unknown[0][:40]!r}; known are {', '.join(sorted(_FIELDS))}")
    if "url" not in fields:
        raise InvalidInput('--url-command: the JSON has no "url"')
    fields = {name: value for name, value in fields.items() if value is not None}
    if isinstance(expires_at := fields.get("expires_at"), str):
        try:
            fields["expires_at"] = datetime.fromisoformat(expires_at)
        except ValueError:
            raise InvalidInput('--url-command: "expires_at" is no time as RFC 3339 writes it') from None
    return Resource(**fields)
