"""The journal of a partial file: which version of which object it is, and which bytes of it are there.

A journal has four slots of fixed place. Each holds a whole record, so that any one of them is enough: a line that says
what it is (format and version, a number that rises with each record, length, digest) and then JSON. The readable record
with the highest number counts. Slots 0 and 1 take turns with the records that are made durable, 2 and 3 with the many
that are only written: whatever moment a process is killed or the power fails at, at most the slot being written is
torn, and of the durable ones the last or the one before it is whole.

A record has two sets of bytes. *Durable* ones were on the disk before the record was made. *Written* ones had been
given to the kernel, which keeps them when a process is killed but not when the machine stops; so they count only in the
same run of the machine, as `boot` shows.

A partial file has the random identity of its journal's record in its name. So a record can only ever describe the very
file that it was made for, two processes cannot give two files the same name, and nothing of the URL is in it. A file
holds bytes of one version only, the record's: for another version a new one is made.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import weakref
from typing import Annotated

import msgspec

from getm.core.lazy import importing
from getm.core.spans import MAX_POSITION, Span
from getm.core.version import Version
from getm.core.writing import write_all

SLOT_BYTES = 16 * 1024
JOURNAL_BYTES = 4 * SLOT_BYTES
_DURABLE_SLOTS, _WRITTEN_SLOTS = (0, 1), (2, 3)
# Two lists of so many pairs of numbers, and the texts, always fit a slot. There are rarely more spans than concurrent
# requests; of more than that only the largest are recorded, and the others would be fetched again.
SPANS_AT_MOST = 160
_TEXTS_BYTES = 2000

_JOURNAL = "getm-journal"
_HEAD = re.compile(rb"getm-journal 2 ([0-9a-f]{16}) ([0-9a-f]{8}) ([0-9a-f]{32})\n")
_HEAD_BYTES = len(b"getm-journal 2 \n") + 16 + 1 + 8 + 1 + 32
_NAME_LIMIT_BYTES = 255

_Identity = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]
_Position = Annotated[int, msgspec.Meta(ge=0, le=MAX_POSITION)]


class Record(msgspec.Struct, frozen=True):
    """One state of a partial file.

    `identity`: in the name of its data file. `version`: of the object; it has a size and a strong validator.
    `declared`: a checksum in canonical text, and who declared it. `in_use`: a process is using it, and `locked`: that
    process holds a lock on the journal. `boot`: the kernel's random identity of this boot (see `lock.boot`). `written`
    and `durable`: start, stop, start, stop, ... of half-open spans.
    """

    identity: _Identity
    version: Version
    declared: tuple[str, str] | None
    in_use: bool
    locked: bool
    boot: str
    written: list[_Position]
    durable: list[_Position]

    def trusted(self, boot: str) -> list[int]:
        """The spans that are certainly there, where the current boot of the machine is `boot`."""
        return self.written if boot and boot == self.boot else self.durable


def new_identity() -> str:
    return os.urandom(8).hex()


def journal_name(target: str) -> str:
    """The journal's name beside the target of that name."""
    return _beside(target, _JOURNAL)


def is_journal_name(name: str) -> bool:
    """Whether that may be a journal's name."""
    return name.startswith(".") and name.endswith(_JOURNAL)


def data_name(target: str, identity: str) -> str:
    """The partial file's name beside the target of that name."""
    return _beside(target, f"{identity}.getm-part")


def _beside(target: str, suffix: str) -> str:
    name = f".{target}.{suffix}"
    # The first check is enough for most names: a character has at most four bytes.
    if 4 * len(name) <= _NAME_LIMIT_BYTES or len(os.fsencode(name)) <= _NAME_LIMIT_BYTES:
        return name
    with importing:
        import hashlib
    return f".{hashlib.sha256(os.fsencode(target)).hexdigest()}.{suffix}"


def spans_of(bounds: list[int]) -> tuple[Span, ...]:
    return tuple(map(Span, bounds[::2], bounds[1::2]))


def fits(version: Version, declared: tuple[str, str] | None) -> bool:
    """Whether the journal can hold it: servers may send a validator of any length."""
    try:
        return len(msgspec.json.encode((version, declared))) <= _TEXTS_BYTES
    except UnicodeEncodeError:
        return False


def encode(sequence: int, record: Record) -> bytes:
    body = msgspec.json.encode(record)
    counted = b"%016x %08x" % (sequence, len(body))
    return b"getm-journal 2 %s %s\n%s\n" % (counted, _digest(counted, body), body)


def decode(slot: bytes) -> tuple[int, Record] | None:
    """The record in a slot and its number; None for anything that `encode` has not made, whole and unchanged."""
    match = _HEAD.match(slot)
    if match is None:
        return None
    body = slot[_HEAD_BYTES : _HEAD_BYTES + int(match[2], 16)]
    if len(body) != int(match[2], 16) or _digest(b"%s %s" % (match[1], match[2]), body) != match[3]:
        return None
    try:
        record = msgspec.json.decode(body, type=Record)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    size = record.version.size
    if size is None or not 0 <= size <= MAX_POSITION or record.version.strong is None:
        return None
    if not all(_well_formed(bounds, size) for bounds in (record.written, record.durable)):
        return None
    return int(match[1], 16), record


def _digest(counted: bytes, body: bytes) -> bytes:
    with importing:
        # Loads OpenSSL: only where there is a journal.
        import hashlib
    return hashlib.blake2b(counted + body, digest_size=16).hexdigest().encode()


def _well_formed(bounds: list[int], size: int) -> bool:
    """Whether these are spans within the object, in order, neither overlapping nor touching."""
    rising = all(low < high for low, high in itertools.pairwise(bounds))
    return rising and len(bounds) % 2 == 0 and (not bounds or bounds[-1] <= size)


class Journal:
    """An open journal. Owns the descriptor `fd` until `close()`. One process writes at a time, one thread at a time.

    `locked`: whether this process has a lock on it.
    """

    def __init__(self, fd: int) -> None:
        self.fd: int = fd
        self.locked: bool = False
        self._sequence = 0
        self._turns = {True: _DURABLE_SLOTS, False: _WRITTEN_SLOTS}
        _open_journals.add(self)

    def load(self) -> Record | None:
        """The record that counts; None where no slot can be read. Raises OSError."""
        content = os.pread(self.fd, JOURNAL_BYTES, 0)
        found = [decode(content[start : start + SLOT_BYTES]) for start in range(0, JOURNAL_BYTES, SLOT_BYTES)]
        numbers = [0 if slot is None else slot[0] for slot in found]
        self._sequence = max(numbers)
        # The older one of each two is overwritten first.
        self._turns = {
            durable: (low, high) if numbers[low] <= numbers[high] else (high, low)
            for durable, (low, high) in ((True, _DURABLE_SLOTS), (False, _WRITTEN_SLOTS))
        }
        return max((slot for slot in found if slot is not None), key=lambda slot: slot[0], default=(0, None))[1]

    def write(self, record: Record, *, durable: bool = False) -> None:
        """Write a new state. One that is to be `durable` the caller brings onto the disk, by fdatasync; then `turn`.
        Raises OSError."""
        self._sequence += 1
        write_all(self.fd, encode(self._sequence, record), self._turns[durable][0] * SLOT_BYTES)
        if not durable:
            self.turn(durable=False)

    def turn(self, *, durable: bool = True) -> None:
        """What was written is where it should be. Without this, the next record overwrites it: the one before it stays
        whole."""
        slot, other = self._turns[durable]
        self._turns[durable] = (other, slot)

    def close(self) -> None:
        """Unlock it as well. Harmless when repeated."""
        if self.fd >= 0:
            # Explicitly: closing the last descriptor unlocks it as well, but a program that another thread is starting
            # has inherited one until its exec (fork(2), flock(2)).
            with contextlib.suppress(OSError):
                fcntl.flock(self.fd, fcntl.LOCK_UN)
            self.abandon()

    def abandon(self) -> None:
        """In a forked child: close, and leave the lock to the parent, which shares it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


_open_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _abandon_all() -> None:
    # The lock belongs to the open file, which parent and child share: a long-lived child would hold it for ever.
    for journal in list(_open_journals):
        with contextlib.suppress(OSError):
            journal.abandon()


os.register_at_fork(after_in_child=_abandon_all)
