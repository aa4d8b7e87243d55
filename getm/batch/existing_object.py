"""What one download does where an object is at its URL already: leave it, ask the server about it, or replace it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from getm import errors
from getm.batch.existing import Examined, Expected
from getm.batch.existing_file import ExistingFile
from getm.core.stats import Stats
from getm.destinations.store import Store
from getm.integrity.files import check_blocks
from getm.integrity.verdict import Verdict, unverified
from getm.protocol.messages import HeadInfo

if TYPE_CHECKING:
    from getm.batch.job import Job
    from getm.batch.object_target import ObjectTarget
    from getm.batch.scheduler import Batch


class ExistingObject(ExistingFile):
    """See `ExistingFile`. What the store says of an object is believed: it is read only where the store does not have
    the checksums that it must have."""

    def __init__(self, job: Job, batch: Batch, target: ObjectTarget) -> None:
        super().__init__(job, batch, target)
        self._object = target

    def examine(self) -> bool:
        self._pin()
        self._examine(self._object.candidate())
        return True

    def come_first(self, info: HeadInfo | None, stats: Stats | None) -> None:
        self._job.end_attempt(stats)
        self._examine(self._object.text, info)

    def _hold_against(self, expected: Expected) -> None:
        url = self._path
        self._batch.examine_object(
            self._job,
            lambda stores, go_on: _examine(stores.of(url), url, expected, self._telling(go_on)),
            self._looked,
        )

    def _looked(self, found: Examined | errors.GetmError | None) -> None:
        if found is None:
            # There is none.
            self._object.examined(self._path)
            self._batch.ready(self._job)
        elif self._batch.options.existing == "keep" and isinstance(found, Examined):
            verdict = unverified("it was there, and was not read")
            self._job.leave_existing(self._path, found.size, verdict, "it exists")
        else:
            self._examined(found)


def _examine(store: Store, url: str, expected: Expected, on_bytes: Callable[[int], None]) -> Examined | None:
    """Hold the object against what it must be; None where there is none."""
    found = store.find(url)
    if found is None:
        return None
    size, modified_s = found.size, found.modified_s or 0.0
    if expected.size not in (None, size):
        return Examined(size, modified_s, wrong=f"it has {size:,} bytes, expected {expected.size:,}")
    if not expected.declared:
        return Examined(size, modified_s)
    stored = {checksum.algorithm: checksum for checksum in found.checksums}
    if all(each.checksum.algorithm in stored for each in expected.declared):
        for each in expected.declared:
            actual = stored[each.checksum.algorithm]
            if actual != each.checksum:
                return Examined(size, modified_s, wrong=f"expected {each.checksum}, and the store has {actual}")
        strongest = expected.declared[0]
        return Examined(size, modified_s, verdict=Verdict(True, strongest.checksum, strongest.source, None))
    verdict = check_blocks(_counted(store.read(url), on_bytes), size, expected.declared)
    wrong = None if verdict.verified else str(verdict)
    return Examined(size, modified_s, verdict=verdict if verdict.verified else None, wrong=wrong)


def _counted(blocks: Iterator[bytes], on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    for block in blocks:
        yield block
        on_bytes(len(block))
