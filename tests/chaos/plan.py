"""What a chaos run does, as a pure function of seeds: objects, modes, and the faults that the servers are to commit."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np

from getm.integrity.files import checksum

KIB = 1024
MIB = 1024 * KIB
PART = 8 * MIB
# As many failures in a row as a transfer must survive.
ATTEMPTS = 5
# All objects are cut out of the same random bytes.
_POOL_BYTES = 96 * MIB
_MAX_OBJECT_BYTES = 32 * MIB

Way = Literal[
    "urlopen", "read", "iter_content", "iter_content_unordered", "aiter_content", "aiter_content_unordered",
    "download", "adownload", "download_all", "seek", "read_ranges", "shared",
]  # fmt: skip
# Nothing is given out before the end.
AT_ONCE = ("read", "read_ranges", "shared")
# Parts of an object, each any number of times.
IN_PARTS = ("seek", "read_ranges")
TO_DISK = ("download", "adownload", "download_all")
Validator = Literal["etag", "date", "weak", "none"]
Declared = Literal["none", "caller", "header"]
Framing = Literal["length", "chunked", "close"]
Wire = Literal["http", "https", "expired certificate", "no TLS behind https", "nobody listens"]
Where = Literal["one process", "two processes", "little memory", "two processes, little memory", "limited rate"]
# What becomes of a request with Range at a server that serves none.
Refusal = Literal["200", "206 of everything", "206 without Content-Range", "closed", "400", "403", "405", "416", "503"]
# Who ends a transfer midway: its consumer, or somebody else while that may be waiting for bytes.
Leaver = Literal["consumer", "other thread", "other task", "session"]
# A second URL for the object that is of no use: what it does to each request.
BadMirror = Literal["refuses", "cuts", "other bytes"]

# What a server does to one request. Harmless: nothing needs to be done again.
HARMLESS = ("late", "throttled", "validator dropped", "early hints", "any phrase", "any bytes", "bytes after the body",
    "engine stopped")  # fmt: skip
# Before the first byte of a body: may always be asked again.
BEFORE_THE_BODY = ("closed without reply", "reset without reply", "half a head", "not now")
# In the body: may be resumed where the object has a strong validator and a known length.
IN_THE_BODY = ("cut", "reset", "stall", "trickle", "short range")
# Another version of the object from this request on: a file can begin with it.
REPLACED = "other version"
# What no retry is sure to mend.
HOSTILE = (
    "refused", "range ignored", "range elsewhere", "no Content-Range", "Content-Range without sense",
    "several ranges", "bit flipped", REPLACED, "no HTTP", "two lengths", "length too small", "head too long",
    "many long fields", "redirected in a circle", "redirected nowhere", "engine killed", "descriptors run out",
)  # fmt: skip
MENDABLE = (*HARMLESS, *BEFORE_THE_BODY, *IN_THE_BODY)
FAULTS = (*MENDABLE, *HOSTILE)


@dataclass(frozen=True)
class Fault:
    """`at`: where in the object, from 0 to 1; `lasting`: every later request meets it as well."""

    kind: str
    at: float
    lasting: bool


@dataclass(frozen=True)
class Plan:
    """One transfer: the object, the way it is asked for, and the fault that its n-th request meets, if any."""

    seed: int
    size: int
    pool_offset: int
    way: Way
    concurrency: int | None
    where: Where
    chunk_size: int
    wire: Wire
    validator: Validator
    declared: Declared
    algorithm: str
    framing: Framing
    refusal: Refusal | None  # of all requests with Range; None: they are served
    granted: int | None  # so many requests at a time, 429 for more
    redirected: bool
    token_requests: int | None  # the redirect's first target answers so many requests, and 403 from then on
    faults: tuple[Fault | None, ...]
    leave_at: float | None  # the transfer is ended after this share of the object,
    leaver: Leaver  # by whom
    held_views: int  # so many views are kept while other transfers go on
    strict: bool
    calls: int  # so many times a download is asked for, each going on with what a failed one has left
    files: int  # as many times the object is in a list of downloads
    kill_between: bool  # an engine is killed when the first of them has come
    bad_mirror: BadMirror | None
    bad_mirror_first: bool  # the bad one is the URL, and the good one its mirror

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(fault.kind for fault in self.faults if fault is not None)

    @property
    def joinable(self) -> bool:
        """Whether several responses may be joined to one object."""
        return self.validator in ("etag", "date") and self.framing == "length"

    @property
    def must_fail(self) -> bool:
        """Whether no client can bring this object."""
        if self.strict and self.declared == "none":
            return True
        if self.bad_mirror == "cuts":
            # What it gives is right, as far as it goes: with luck the whole comes together.
            return False
        first = self.faults[0] if self.faults else None
        refused = first is not None and first.kind == "refused" and first.lasting
        # A further request, for the whole in place of a range or by a further call, may meet another fault instead.
        return self.wire not in ("http", "https") or (refused and not any(self.faults[1:]))

    @property
    def must_succeed(self) -> bool:
        """Whether a client that gives up here gives up too early."""
        if self.must_fail or any(fault is not None and fault.lasting for fault in self.faults):
            return False
        if self.way == "seek" and (not self.joinable or self.refusal is not None):
            # It can only be read on.
            return False
        if self.way == "read_ranges" and self.framing != "length":
            # Where its end is cannot be told.
            return False
        mendable = {*HARMLESS, *BEFORE_THE_BODY}
        if self.way in TO_DISK or (self.joinable and self.refusal is None):
            # What broke off can be gone on with, or begun from the start.
            mendable |= set(IN_THE_BODY)
        elif self.token_requests is not None:
            return False
        if self.way in TO_DISK and self.declared != "caller":
            mendable.add(REPLACED)
        if self.bad_mirror is not None:
            # Where somebody else can be asked, one bad answer is enough to give a server up.
            mendable -= set(BEFORE_THE_BODY)
            if self.bad_mirror != "refuses" or self.token_requests is not None:
                return False
        failing = sum(fault is not None and fault.kind not in HARMLESS for fault in self.faults)
        if self.granted is not None and failing:
            # What has failed may still count as under way.
            return False
        # A token that has run out is one more failure, and may be met by every part at once. So is a refused Range.
        return self.kinds <= mendable and failing <= ATTEMPTS - 2


@cache
def pool() -> bytes:
    return np.random.Generator(np.random.SFC64(20250701)).bytes(_POOL_BYTES)


@dataclass(frozen=True)
class Version:
    """An object as it was at one time: its bytes, what identifies them, and their checksum."""

    body: bytes
    etag: str | None
    last_modified: str | None
    checksum: str


def version(plan: Plan, number: int) -> Version:
    """Version 0 is the first; version 1 has other bytes, and now and then another size."""
    size = plan.size if number == 0 else max(0, plan.size + (plan.seed % 3 - 1))
    start = plan.pool_offset + 7 * number * KIB
    body = pool()[start : start + size]
    etag = f'"{plan.seed:x}-{number}"'
    return Version(
        body=body,
        etag={"etag": etag, "weak": f"W/{etag}"}.get(plan.validator),
        last_modified=f"Tue, 0{number + 1} Jul 2025 00:00:00 GMT" if plan.validator in ("etag", "date") else None,
        checksum=str(checksum(body, plan.algorithm)),
    )


def transfer_seed(run_seed: int, number: int) -> int:
    """The seed of the `number`-th transfer of a run."""
    return random.Random(f"getm chaos {run_seed} {number}").getrandbits(40)


def make_plan(seed: int) -> Plan:
    """The transfer that `seed` stands for, in every run and on every machine."""
    pick = random.Random(seed)
    framing: Framing = pick.choices(("length", "chunked", "close"), (20, 2, 1))[0]
    concurrency = pick.choice((1, 1, 2, 3, 8, None, None))
    way: Way = pick.choice(get_args(Way))
    calls = pick.choice((1, 2, 3)) if way in TO_DISK else 1
    # What is to be gone on with must have a journal.
    size = _size(pick) if calls == 1 else int(2 ** pick.uniform(20, 24.5))
    redirected = pick.random() < 0.25
    declared: Declared = pick.choice(("none", "caller", "header"))
    wire: Wire = "https" if pick.random() < 0.3 else "http"
    if pick.random() < 0.02:
        wire = pick.choice(("expired certificate", "no TLS behind https", "nobody listens"))
    leave_at = pick.random() if pick.random() < (0.12 if calls == 1 else 0.5) else None
    return Plan(
        seed=seed,
        size=size,
        pool_offset=pick.randrange(_POOL_BYTES - _MAX_OBJECT_BYTES - MIB),
        way=way,
        concurrency=concurrency,
        where=pick.choices(get_args(Where), (8, 8, 2, 2, 1))[0],
        # Tiny chunks of large objects would take the time of all else.
        chunk_size=pick.choice((MIB, MIB, 3 * MIB + 1, 300_000, 4096) if size < 4 * MIB else (MIB, 2 * MIB, 700_001)),
        wire=wire,
        validator=pick.choices(("etag", "date", "weak", "none"), (10, 3, 1, 1))[0],
        declared=declared,
        algorithm=pick.choice(("sha256", "crc32c", "md5")),
        framing=framing,
        refusal=pick.choice(get_args(Refusal)) if pick.random() < 0.15 else None,
        granted=pick.choice((1, 2)) if concurrency not in (1, None) and pick.random() < 0.15 else None,
        redirected=redirected,
        token_requests=pick.randint(1, 4) if redirected and pick.random() < 0.4 else None,
        faults=_faults(pick),
        leave_at=leave_at,
        leaver=_leaver(pick, way) if leave_at is not None and calls == 1 else "consumer",
        held_views=pick.choice((0, 0, 0, 1, 3)),
        strict=pick.random() < 0.05 and way not in IN_PARTS,
        calls=calls,
        files=pick.choice((1, 2, 5)) if way == "download_all" else 1,
        kill_between=way == "download_all" and pick.random() < 0.3,
        bad_mirror=_bad_mirror(pick, way in TO_DISK and declared == "caller") if wire in ("http", "https") else None,
        bad_mirror_first=pick.random() < 0.5,
    )


def _leaver(pick: random.Random, way: Way) -> Leaver:
    if way.startswith("aiter"):
        return pick.choice(("consumer", "other task", "session"))
    return pick.choice(
        ("consumer", "session") if way in (*TO_DISK, *AT_ONCE) else ("consumer", "other thread", "session")
    )


def _bad_mirror(pick: random.Random, others_bytes: bool) -> BadMirror | None:
    # Other bytes are found out at the end: until then, only what goes to the disk is nobody's.
    kinds: tuple[BadMirror, ...] = ("refuses", "cuts", "other bytes") if others_bytes else ("refuses", "cuts")
    return pick.choice(kinds) if pick.random() < 0.15 else None


def _size(pick: random.Random) -> int:
    """From nothing to tens of MiB, most of them small; and the sizes around which code changes its mind."""
    kind = pick.random()
    if kind < 0.25:
        edge = pick.choice((0, 1, 4096, 64 * KIB, MIB, 4 * MIB, PART, 2 * PART))
        return max(0, edge + pick.choice((-1, 0, 1)))
    if kind < 0.75:
        return int(2 ** pick.uniform(0, 21))
    return int(2 ** pick.uniform(21, 25))


def _faults(pick: random.Random) -> tuple[Fault | None, ...]:
    if pick.random() < 0.25:
        return ()
    # Most schedules stay within what can be mended, so that many transfers reach their end.
    kinds = FAULTS if pick.random() < 0.4 else MENDABLE
    faults: list[Fault | None] = []
    for _ in range(pick.randint(1, 6)):
        if pick.random() < 0.5:
            faults.append(None)
            continue
        kind = pick.choice(kinds)
        # A stall costs its time again and again, and so does a trickle.
        lasting = kind not in IN_THE_BODY and pick.random() < 0.15
        faults.append(Fault(kind, pick.choice((0.0, 1.0, pick.random(), pick.random())), lasting))
    return tuple(faults)
