"""Who may continue a partial file: at most one process at a time.

Where flock(2) works, the kernel knows. Where it does not (some network file systems), or may know only its own machine,
the journal decides: it is free when its last user has released it, or has written nothing for a while. Any other
process uses a file with a random name, which is never resumed.

Even a wrong answer mixes no bytes: whoever continues a file writes the same bytes of the same version to it, and for
another version makes a file of its own.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import functools
import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path

from getm.core.this_process import process_number
from getm.files.folder import Folder, closing
from getm.files.journal import Journal, Record, journal_name, new_identity

FRESH_S = 60.0

# What has the journal's name is not a file of ours: a symbolic link, a folder, a socket, another user's file.
_NOT_OURS = frozenset({errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.EACCES, errno.EPERM})
# flock(2) and what file systems make of it. Any error but "another process has it" means that there are no locks here.
_LOCKED = frozenset({errno.EWOULDBLOCK, errno.EACCES})


class Outcome(enum.Enum):
    """Why there is no journal to continue."""

    ABSENT = "there is none"
    BUSY = "another process uses it, or it is not ours"


def is_free(record: Record | None, boot: str, *, locked: bool, is_fresh: Callable[[], bool]) -> bool:
    """Whether what `record` (None: unreadable) describes may be continued here. `locked`: this process has just locked
    the journal; `is_fresh`: whether it was written recently."""
    if record is None:
        # Without locks, another process may be writing its first record.
        return locked or not is_fresh()
    if not record.in_use:
        return True
    if locked and record.locked and record.boot == boot:
        # The kernel would have refused the lock if the other process still had it.
        return True
    return not is_fresh()


def find(folder: Folder, target: str) -> tuple[Journal, Record | None] | Outcome:
    """Open the journal of the file `target` in `folder`, if there is one that may be continued, and its record (None:
    it cannot be read). Never waits. Raises OSError."""
    name = journal_name(target)
    while True:
        try:
            fd = folder.open(name)
        except FileNotFoundError:
            return Outcome.ABSENT
        except OSError as error:
            if error.errno in _NOT_OURS:
                return Outcome.BUSY
            raise
        journal = Journal(fd)
        found: tuple[Journal, Record | None] | Outcome = Outcome.BUSY
        try:
            found = _examine(folder, name, journal)
        finally:
            if isinstance(found, Outcome):
                journal.close()
        if found is not Outcome.ABSENT:
            return found
        # It was removed or replaced between opening and locking it: the other process has made progress.


def create(folder: Folder, target: str) -> Journal | None:
    """A new, empty journal; None where another process was faster. Raises OSError."""
    name = journal_name(target)
    try:
        # 0o600: other users need not know what is being downloaded.
        journal = Journal(folder.create(name, 0o600))
    except FileExistsError:
        return None
    created = False
    try:
        created = _lock(journal) and folder.holds(name, journal.fd)
    finally:
        if not created:
            journal.close()
    return journal if created else None


def remove(folder: Folder, target: str, journal: Journal) -> None:
    """Close the journal and remove it, unless it is another process's by now. Raises OSError."""
    try:
        if journal.fd >= 0 and folder.holds(journal_name(target), journal.fd):
            folder.remove(journal_name(target))
    finally:
        journal.close()


def private_name() -> str:
    """A unique name. Made without a system call, which gives up the GIL, for which a busy thread may wait for long."""
    return f".getm-{_of_process(process_number())}-{next(_counter):x}.part"


_counter = itertools.count()
_of_process = functools.lru_cache(maxsize=1)(lambda _: new_identity())


def is_our_file(status: os.stat_result) -> bool:
    """A regular file of this user with one name: a file that another user planted is never written."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == os.geteuid()


@functools.cache
def boot() -> str:
    """The kernel's random identity of the current boot; "" where it has none (proc(5), /proc/sys/kernel/random)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _examine(folder: Folder, name: str, journal: Journal) -> tuple[Journal, Record | None] | Outcome:
    """ABSENT: `name` is no longer `journal`."""
    if not is_our_file(os.fstat(journal.fd)):
        # Removed by its user a moment ago, which leaves no link; or planted.
        return Outcome.BUSY if folder.holds(name, journal.fd) else Outcome.ABSENT
    if not _lock(journal):
        return Outcome.BUSY
    if not folder.holds(name, journal.fd):
        return Outcome.ABSENT
    changed_s = os.fstat(journal.fd).st_mtime
    record = journal.load()
    if is_free(record, boot(), locked=journal.locked, is_fresh=lambda: _now(folder) - changed_s < FRESH_S):
        return journal, record
    return Outcome.BUSY


def _lock(journal: Journal) -> bool:
    """False: another process has the lock. True: this one has it, or there are no locks here (`journal.locked`)."""
    try:
        fcntl.flock(journal.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _LOCKED
    journal.locked = True
    return True


def _now(folder: Folder) -> float:
    """The time by the file system's own clock: on a network, the server's."""
    name = private_name()
    with closing(folder.create(name, 0o600)) as fd:
        folder.remove(name)
        return os.fstat(fd).st_mtime
