"""One object's verification in the engine: what its heads declare, the hashing of its slots, and the verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from getm import errors
from getm.core.head import ResponseHead
from getm.core.redact import redact
from getm.integrity.blocks import block_bytes_for
from getm.integrity.declared.discover import discover
from getm.integrity.declared.types import Declared
from getm.integrity.hashing.hasher import INLINE_BYTES, PartsHasher, check_small
from getm.integrity.hashing.threads import HashPool
from getm.integrity.values import parse_checksum
from getm.integrity.verdict import Verdict, unverified
from getm.protocol.messages import OpenRequest


class Verification:
    """Finds the checksums to verify the bytes against, and gives the verdict at the end."""

    def __init__(self, request: OpenRequest, pool: HashPool) -> None:
        self._request = request
        self._pool = pool
        # The checksums to verify the whole object against.
        self.declared: tuple[Declared, ...] = ()
        self._reason = ""
        self._strict = request.strict
        # Takes the slots; None where nothing can be verified.
        self.hasher: PartsHasher | None = None

    def find(self, heads: Sequence[ResponseHead], size: int | None) -> tuple[str, ...]:
        """Find the checksums that the responses declare, redirects first; returns notes: what is declared and cannot be
        used, and why."""
        if self._request.checksums is None:
            self._reason = "checksum=None: no verification was asked for"
        elif not self._request.checksums:
            found = discover(heads, size=size)
            # The strongest; the weaker ones would cost time and add nothing.
            self.declared = found.declared[:1]
            self._reason = found.reason
            return found.notes
        else:
            self.declared = tuple([Declared(parse_checksum(text), "caller") for text in self._request.checksums])
        return ()

    @property
    def certain(self) -> bool:
        """Whether wrong bytes would be noticed, wherever they came from. An S3 ETag of parts whose size is not known
        may prove nothing."""
        return any(declared.checksum.parts is None for declared in self.declared)

    def begin(self, size: int | None, *, resumed: bool, partial: bool) -> None:
        """Prepare for the first slot. `resumed`: only the rest of the object is fetched, and the caller, who has the
        other bytes, must verify it. `partial`: nobody has the other bytes. Raises `Unverified` where strict and nothing
        can verify the bytes."""
        if partial:
            self.declared, self._reason = (), "only a part of the object was read, and checksums are of the whole"
            if self._strict:
                raise self._unverified("can verify", self._reason)
        elif resumed:
            self._strict = False
            if self.declared:
                self._reason = "resumed: only the missing bytes were fetched, and the whole was not read"
        else:
            if self._strict and not self.declared:
                raise self._unverified("can verify", self._reason, "; give a checksum")
            block_bytes = block_bytes_for(size) if self._request.blocks else None
            if self.declared or block_bytes is not None:
                self.hasher = PartsHasher(self.declared, size=size, pool=self._pool, block_bytes=block_bytes)

    def may_check(self, size: int) -> bool:
        """Whether `check` can give the verdict on a content of that size, and at once."""
        if not self.declared:
            return not self._strict
        return len(self.declared) == 1 and self.certain and size <= INLINE_BYTES

    def check(self, content: bytes | memoryview) -> Verdict:
        """The verdict on all of a small object. Raises `ChecksumMismatch`, `MissingExtra`."""
        verdict = check_small(self.declared[0], content) if self.declared else unverified(self._reason)
        if verdict.mismatch is not None:
            raise verdict.mismatch.as_error(redact(self._request.url))
        return verdict

    async def verdict(self, total: int, call: Callable[..., Any]) -> Verdict:
        """The verdict on the `total` bytes. Raises `ChecksumMismatch`, or `Unverified` where strict. `call(callback,
        *args)` calls on this event loop from any thread."""
        if self.hasher is None:
            verdict = unverified(self._reason)
        else:
            decided: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
            self.hasher.finish(total, lambda found: call(_settle, decided, found))
            verdict = await decided
            if not self.declared:
                # It was read for its blocks alone.
                verdict = unverified(self._reason, blocks=verdict.blocks)
        if verdict.mismatch is not None:
            raise verdict.mismatch.as_error(redact(self._request.url))
        if self._strict and not verdict.verified:
            raise self._unverified("verified", verdict.reason)
        return verdict

    def _unverified(self, what: str, reason: str | None, advice: str = "") -> errors.Unverified:
        message = f"strict was asked for and nothing {what} the bytes: {reason}{advice}"
        return errors.Unverified(message, url=redact(self._request.url), reason=reason)

    def cancel(self) -> None:
        """Nothing more is fed: the hash threads stop immediately."""
        if self.hasher is not None:
            self.hasher.cancel()


def _settle(future: asyncio.Future[Verdict], verdict: Verdict) -> None:
    if not future.done():
        future.set_result(verdict)
