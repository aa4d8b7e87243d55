"""Imports at first use, and forks meanwhile: a child made during an import would have its locks, held for ever."""

from __future__ import annotations

import _thread
import os

_lock = _thread.RLock()


class _Importing:
    """A context in which something is imported at first use. Whoever forks waits for its end."""

    def __init__(self) -> None:
        self._ready = False

    def __enter__(self) -> None:
        if not self._ready:
            self._prepare()
        _lock.acquire()

    def __exit__(self, *raised: object) -> None:
        _lock.release()

    def _prepare(self) -> None:
        """What is registered last is called first before a fork. `logging` takes its lock there: with that, the fork
        would wait for an import that wants the same lock. So `logging` comes first, and ours is registered again."""
        with _lock:
            import logging  # noqa: F401

            if not self._ready:
                _register()
                self._ready = True


def _release() -> None:
    # Where it was registered again after the fork had begun, there are more of these than of their counterparts.
    if _lock._is_owned():  # type: ignore[attr-defined]  # as `threading.Condition` uses it
        _lock.release()


def _register() -> None:
    os.register_at_fork(before=_lock.acquire, after_in_parent=_release, after_in_child=_release)


importing: _Importing = _Importing()
_register()
