"""Imports at first use, and forks meanwhile: a child made during an import would have its locks, held for ever."""

from __future__ import annotations

import _thread
import os

# Held while anything of getm is imported at first use, and by whoever forks: a fork waits for the import's end.
importing = _thread.RLock()

os.register_at_fork(before=importing.acquire, after_in_parent=importing.release, after_in_child=importing.release)
