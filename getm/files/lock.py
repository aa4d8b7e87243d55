"""Who may go on with a partial file: at most one process, and none that another one could still write under.

Where flock(2) works, the kernel knows. Where it does not (some network file systems), or knows only of its own machine,
the owner that the journal names decides: one that runs on this machine is at it; one of another machine is believed to
be as long as its journal is fresh by the file system's own clock. What such a one has left is taken over by copying,
since it could still be alive, cut off, and go on writing.

Even a wrong answer mixes no bytes: each process has a file of its own name, and takes one over by renaming it, which
only one can do.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import fcntl
import functools
import os
import stat
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from getm.files.folder import Folder
from getm.files.journal import Journal, Owner, Record, journal_name, new_identity

FRESH_S = 60.0

# What stands under the journal's name is no file of ours: a symbolic link, a folder, a socket, another user's file.
_NOT_OURS = frozenset({errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.EACCES, errno.EPERM})
# flock(2) and what file systems make of it. Anything else than "somebody has it" means that there are no locks here.
_LOCKED = frozenset({errno.EWOULDBLOCK, errno.EACCES})


class Outcome(enum.Enum):
    """How it stands with a journal that cannot be had."""

    ABSENT = "there is none"
    BUSY = "another process is at it, or it is not ours"


class Judgement(enum.Enum):
    """What may be done with what an owner has left."""

    TAKE = "it is gone: go on in its place"
    COPY = "it is believed to be gone: go on with a copy"
    LEAVE = "it is at work"


@dataclass(frozen=True, slots=True)
class Claim:
    """A journal that this process may go on with. `record` None: nothing in it can be read."""

    journal: Journal
    record: Record | None
    judgement: Judgement
    me: Owner
    changed_ns: int
    """The journal's time of change when it was judged."""


def judge(owner: Owner | None, me: Owner, *, fresh: Callable[[], bool], alive: Callable[[Owner], bool]) -> Judgement:
    """What `me` may do with the partial file of `owner` (None: it was let go). `me.locked`: I got the lock just now.

    `fresh`: whether the journal was written lately; `alive`: whether a process of this machine's present run, with
    numbers of the same namespace, is there.
    """
    if owner is None:
        return Judgement.TAKE
    seen = owner.namespace == me.namespace
    if owner.boot == me.boot if me.boot else owner.host == me.host:
        if owner.locked and me.locked:
            # The kernel would have refused the lock if the owner still had it.
            return Judgement.TAKE
        if seen:
            return Judgement.LEAVE if alive(owner) else Judgement.TAKE
    elif owner.host == me.host and owner.boot:
        # This machine, before it was started anew.
        return Judgement.TAKE
    return Judgement.LEAVE if fresh() else Judgement.COPY


def find(folder: Folder, target: str) -> Claim | Outcome:
    """Claim the journal of the file `target` in `folder`, if there is one. Never waits for anybody. Raises OSError."""
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
        try:
            claim = _claim(folder, name, journal)
        except BaseException:
            journal.close()
            raise
        if isinstance(claim, Claim):
            _claimed.add(journal)
            return claim
        journal.close()
        if claim is Outcome.BUSY:
            return claim
        # It was removed or replaced between opening and locking it: whoever did that has made progress.


def create(folder: Folder, target: str) -> tuple[Journal, Owner] | None:
    """A new, empty journal, claimed; None where another process was faster. Raises OSError."""
    name = journal_name(target)
    try:
        # 0o600: nobody else has to know what is being fetched.
        journal = Journal(folder.create(name, 0o600))
    except FileExistsError:
        return None
    try:
        locked = _lock(journal.fd)
        if locked is None or not folder.holds(name, journal.fd):
            journal.close()
            return None
    except BaseException:
        journal.close()
        raise
    _claimed.add(journal)
    return journal, this_process(locked=locked)


def replace(folder: Folder, target: str, claim: Claim, record: Callable[[Owner], Record]) -> Journal | None:
    """A new journal in place of the claimed one, for a copy of its data; None where its owner has come back to life.

    The old journal is closed. Raises OSError.
    """
    name = journal_name(target)
    # Written under a name of its own and locked before anybody can see it.
    temporary = private_name()
    journal = Journal(folder.create(temporary, 0o600))
    try:
        locked = _lock(journal.fd)
        journal.write(record(this_process(locked=bool(locked))), durable=True)
        if os.fstat(claim.journal.fd).st_mtime_ns == claim.changed_ns and folder.holds(name, claim.journal.fd):
            folder.rename(temporary, name)
            claim.journal.close()
            _claimed.add(journal)
            return journal
    except BaseException:
        journal.close()
        folder.remove(temporary)
        raise
    journal.close()
    folder.remove(temporary)
    return None


def remove(folder: Folder, target: str, journal: Journal) -> None:
    """Close the journal, and leave none behind unless it is another's by now. Raises OSError."""
    try:
        if journal.fd >= 0 and folder.holds(journal_name(target), journal.fd):
            folder.remove(journal_name(target))
    finally:
        journal.close()


def private_name() -> str:
    """A name that nobody else has."""
    return f".getm-{new_identity()}.part"


def _claim(folder: Folder, name: str, journal: Journal) -> Claim | Outcome:
    """ABSENT: by now `name` stands for something else than `journal`."""
    status = os.fstat(journal.fd)
    if not is_our_file(status):
        # Removed by its owner a moment ago, which leaves no link; or planted.
        return Outcome.BUSY if folder.holds(name, journal.fd) else Outcome.ABSENT
    locked = _lock(journal.fd)
    if locked is None:
        return Outcome.BUSY
    if not folder.holds(name, journal.fd):
        return Outcome.ABSENT
    status = os.fstat(journal.fd)
    record = journal.load()
    me = this_process(locked=locked)

    def fresh() -> bool:
        return _now(folder) - status.st_mtime < FRESH_S

    if record is None:
        # Without locks it may be that another process is just writing its first record.
        judgement = Judgement.LEAVE if not locked and fresh() else Judgement.TAKE
    else:
        judgement = judge(record.owner, me, fresh=fresh, alive=_is_alive)
    if judgement is Judgement.LEAVE:
        return Outcome.BUSY
    return Claim(journal, record, judgement, me, status.st_mtime_ns)


def is_our_file(status: os.stat_result) -> bool:
    """A regular file of this user under no second name: what somebody else put there is never written through."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == os.geteuid()


def _lock(fd: int) -> bool | None:
    """True: locked. None: another process has the lock. False: there are no locks here."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in _LOCKED else False
    return True


def _now(folder: Folder) -> float:
    """The time by the clock that the file system gives files their times by: on a network, the server's."""
    name = private_name()
    fd = folder.create(name, 0o600)
    try:
        return os.fstat(fd).st_mtime
    finally:
        os.close(fd)
        folder.remove(name)


# Processes ----------------------------------------------------------------------------------------------------------


def this_process(*, locked: bool) -> Owner:
    """This process as the owner of a partial file."""
    pid = os.getpid()
    return Owner(host=_host(), boot=boot(), namespace=_namespace(), pid=pid, started=_started(pid), locked=locked)


@functools.cache
def boot() -> str:
    """The kernel's random identity of its present run; "" where it has none (proc(5), /proc/sys/kernel/random)."""
    return _text("/proc/sys/kernel/random/boot_id")


@functools.cache
def _host() -> str:
    # Many machines are called "localhost"; many copies of an image have one machine-id.
    return f"{os.uname().nodename} {_text('/etc/machine-id')}".strip()


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _text(path: str) -> str:
    try:
        # errors: a program may be called by any bytes.
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _is_alive(owner: Owner) -> bool:
    if sys.platform == "linux":
        started = _started(owner.pid)
        return started is not None and started == owner.started
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _started(pid: int) -> int | None:
    """When the process started, in ticks since the machine did (proc_pid_stat(5), field 22); None if it has ended."""
    # The name of the program, in parentheses, may hold spaces and parentheses itself.
    fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    # Field 3 is the state; a zombie has ended and only waits to be told of.
    return int(fields[19]) if len(fields) > 19 and fields[0] not in "ZX" else None


# Forks --------------------------------------------------------------------------------------------------------------

_claimed: weakref.WeakSet[Journal] = weakref.WeakSet()
_forks = 0


def forks() -> int:
    """How many forks stand between this process and its program's start: another number, another process."""
    return _forks


def _after_fork_in_child() -> None:
    global _forks
    _forks += 1
    # The lock belongs to the open file, which parent and child share: a child that lives on would hold it for ever.
    for journal in list(_claimed):
        with contextlib.suppress(OSError):
            journal.abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)
