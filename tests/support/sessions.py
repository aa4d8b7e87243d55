"""A session that several tests use in turn: the start of its engine takes longer than most of them."""

from __future__ import annotations

from typing import Any

import getm
from tests.support import leaks


class KeptSession:
    """The session of those tests of a module that share one, and what there was before them.

    What one of them leaves behind cannot be told from what the session keeps until that has ended.
    """

    def __init__(self) -> None:
        # Whether the next test shares the session, and whether one that did has failed.
        self.goes_on = False
        self.spoilt = False
        self._session: getm.Session | None = None
        self._settings: dict[str, Any] = {}
        self._before: leaks.Snapshot | None = None
        self._last: leaks.Snapshot | None = None

    def open(self, **settings: Any) -> getm.Session:
        """The session, or another one where it was closed or has other settings."""
        if self._session is None or self._session.closed or settings != self._settings:
            if self._session is not None:
                self._session.close()
            self._session, self._settings = getm.Session(**settings), settings
        return self._session

    def begin(self, now: leaks.Snapshot) -> None:
        """Before each test."""
        if self._session is None or self._before is None or self._last is None:
            self._before = now
        else:
            # New since the last test: what modules share, as a server.
            self._before = self._before.with_new(self._last, now)

    def end(self) -> str:
        """After each test: what was left behind by it, or, of what only the session's end shows, by one before it."""
        assert self._before is not None
        whose = "the test"
        if self._session is not None and self.goes_on and not self.spoilt:
            self._last = leaks.snapshot()
            found = leaks.files_left_behind(self._before)
        else:
            if self._session is not None:
                self._session.close()
            if self._last is not None:
                whose = "the test, or one before it with the same session,"
            self._session, self._last, self.spoilt = None, None, False
            found = leaks.left_behind(self._before)
        return "\n  ".join([f"{whose} left behind:", *found]) if found else ""
