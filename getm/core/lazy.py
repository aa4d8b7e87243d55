"""Imports at first use, and forks during them: a child forked during an import would have its locks, held for ever."""

from __future__ import annotations

import _thread
import os

# Held during an import of getm at first use, and during a fork: a fork waits for the end of the import.
importing = _thread.RLock()

os.register_at_fork(before=importing.acquire, after_in_parent=importing.release, after_in_child=importing.release)
