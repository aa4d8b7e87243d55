"""What one download does where a file is at its target already: leave it, ask the server about it, or replace it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from getm import errors
from getm.core.lazy import importing
from getm.core.log import get_logger
from getm.core.stats import Stats
from getm.events import Examining
from getm.integrity.values import parse_checksum
from getm.integrity.verdict import unverified
from getm.protocol.messages import EndInfo, HeadInfo

if TYPE_CHECKING:
    from getm.batch.existing import Examined, Expected, Here
    from getm.batch.job import Job
    from getm.batch.object_target import ObjectTarget
    from getm.batch.scheduler import Batch
    from getm.batch.target import Target
    from getm.core.spans import Span
    from getm.core.version import Version
    from getm.files.partial import PartialFile
    from getm.files.receipt_lines import ReceiptEntry
    from getm.integrity.blocks import BlockSums

_log = get_logger()

# How often the reading of a large file is reported.
_TELL_S = 0.25

# Conditions of the caller's own: a 304 to them is an error, as nothing here would be what they refer to.
_CONDITIONS = frozenset({"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range"})


class ExistingFile:
    """The file at the target of one download, which `existing` is about. Everything happens in the batch's thread; the
    file is read in another one.

    With "verify", a file that is known by the list or a receipt needs no request, and any other one HEAD. With
    "update", one request is made on the condition that there is another version; its answer may also bring it. With
    "repair", a damaged file keeps its good blocks.

    `replaced`: why it is downloaded again; None: it is not, or was not examined.
    """

    def __init__(self, job: Job, batch: Batch, target: Target | ObjectTarget) -> None:
        self.replaced: str | None = None
        self._job = job
        self._batch = batch
        self._target = target
        self._updates = batch.options.existing == "update"
        # The path that was examined, what was found, and the head of the response that names it, where one did.
        self._path = ""
        self._found: Examined | None = None
        self._named_by: HeadInfo | None = None
        # What the server is asked, and the answer: what the file should be; whether there is another version.
        self._asks_head = self._was_asked = False
        self._here: Here | None = None
        self._is_current = False
        # The version that all bytes must be of.
        self._pinned: Version | None = None

    # What is there ----------------------------------------------------------------------------------------------------

    def examine(self) -> bool:
        """Before the first request: have the file examined. False where there is none, as far as that is known."""
        if not self._batch.options.examines:
            return False
        try:
            self._path = self._target.candidate() or ""
            if not (self._path and os.path.lexists(self._path)):
                self._pin()
                return False
            self._examine(self._path)
        except errors.GetmError as error:
            self._job.fail(error)
        return True

    def come_first(self, info: HeadInfo | None, stats: Stats | None) -> None:
        """That there is one is known only now, by the response with that head: leave it, or have it examined."""
        path = str(self._target.path)
        if self._batch.options.existing == "keep":
            self._job.end_attempt(stats)
            self._job.leave_existing(path, _size_of(path), unverified("it was there, and was not read"), "it exists")
            return
        self._job.end_attempt(stats)
        self._examine(path, info)

    def _examine(self, path: str, named_by: HeadInfo | None = None) -> None:
        self._path, self._named_by, self._is_current = path, named_by, False
        self._hold_against(self._expected(named_by))

    def _hold_against(self, expected: Expected) -> None:
        path, blocks = self._path, self._job.request.blocks
        self._batch.examine(
            self._job,
            lambda examiner, go_on: examiner.examine(path, expected, self._telling(go_on), blocks=blocks),
            self._examined,
        )

    def _expected(self, info: HeadInfo | None) -> Expected:
        """What the file must be: by what the caller says of it, or a receipt, or else the head of a response."""
        with importing:
            from getm.batch.existing import Expected

        request, known = self._job.request, self._received()
        if request.checksums and not self._updates:
            return Expected.of_list(request.size, request.checksums)
        if known is not None and request.size in (None, known.size) and (known.proofs or self._updates):
            # A file that was not changed since need not be read for "update".
            return Expected.of_receipt(known, may_trust=self._updates)
        return Expected(request.size) if info is None else Expected.of_server(info.size, info.declared)

    def _telling(self, go_on: Callable[[int], None]) -> Callable[[int], None]:
        """Takes the number of bytes of each read, in the thread that reads, and reports them now and then."""
        index, path, done, told_s = self._job.index, Path(self._path), 0, time.monotonic()

        def on_bytes(count: int) -> None:
            nonlocal done, told_s
            go_on(count)
            done += count
            if self._batch.wants_events and time.monotonic() - told_s >= _TELL_S:
                told_s = time.monotonic()
                size = _size_of(self._path)
                self._batch.report(Examining(index, path, min(done, size), size))

        return on_bytes

    def _received(self) -> ReceiptEntry | None:
        """What the receipt says of the file."""
        return None if self._batch.receipt is None else self._batch.receipt.find(self._path)

    def _of_same_url(self) -> ReceiptEntry | None:
        """The same, where it came from the URL of this download, apart from the query, which may be a signature: the
        validators of another one mean nothing."""
        entry = self._received()
        return entry if entry is not None and entry.url == self._job.url else None

    def _examined(self, found: Examined | errors.GetmError) -> None:
        """What is there is known: leave it, ask the server, or go on."""
        try:
            if isinstance(found, errors.GetmError):
                raise found
            self._found = found
            if self._updates:
                self._update(found)
            elif found.verdict is not None:
                self._leave(found.left)
            elif found.wrong is None and not (self._was_asked or self._named_by or self._job.request.checksums is None):
                self._asks_head = self._was_asked = True
                self._batch.ready(self._job)
            else:
                self._replace(found.wrong)
        except errors.GetmError as error:
            self._job.fail(error)

    def _update(self, found: Examined) -> None:
        with importing:
            from getm.batch.existing import here

        version, named_by = here(found, self._of_same_url()), self._named_by
        if isinstance(version, str):
            self._replace(version)
        elif named_by is not None:
            if version.is_current(named_by.head, named_by.size):
                self._leave("not modified")
            else:
                self._replace("the server has another version")
        elif any(name.lower() in _CONDITIONS for name, _ in self._job.request.headers):
            self._replace("the request has a condition of its own")
        else:
            self._here = version
            self._batch.ready(self._job)

    def _leave(self, why: str) -> None:
        found, known = self._found, self._of_same_url()
        size = 0 if found is None else found.size
        verdict = unverified(f"{why}; it was not read") if found is None or found.verdict is None else found.verdict
        self._job.leave_existing(self._path, size, verdict, why, None if known is None else known.version)

    def _replace(self, why: str | None) -> None:
        """Download it again, unless only the server chose its name."""
        with importing:
            from getm.batch.existing import NOTHING_SAYS, not_replaced

        why = why or NOTHING_SAYS
        if self._named_by is not None and self._target.chosen_by_server(self._path):
            raise not_replaced(self._path, why)
        self.replaced = why
        self._target.examined(self._path)
        if not self._repair():
            _log.info("%s: downloaded again: %s", self._path, why)
            self._batch.ready(self._job)

    # Repair -----------------------------------------------------------------------------------------------------------

    def _repair(self) -> bool:
        """Have the blocks kept that are not damaged, where a receipt says what they should be; the others are to be of
        the same version. False where there is none, or the list wants another file."""
        entry = self._pin()
        sums = None if entry is None or self._batch.options.dry_run else entry.blocks
        if entry is None or sums is None:
            return False
        version = entry.version.as_received()
        if version.strong is None:
            # Nothing would show that the rest is of the same version.
            return False
        with importing:
            from getm.files.mending import copy_undamaged
        partial = self._target.begin_repair(self._path, version)
        if partial is None:
            return False
        path, target, missing = self._path, partial.fileno(), partial.missing()
        self._batch.examine(
            self._job,
            lambda _, go_on: copy_undamaged(path, target, sums, missing, self._telling(go_on)),
            lambda copied: self._kept(partial, sums, copied),
        )
        return True

    def _pin(self) -> ReceiptEntry | None:
        """For a repair, all must be of the version that was received: what the receipt says of it, if anything."""
        entry = self._of_same_url() if self._batch.options.existing == "repair" else None
        if entry is None or not self._is_wanted(entry):
            return None
        self._pinned = entry.version
        return entry

    def _is_wanted(self, entry: ReceiptEntry) -> bool:
        """Whether the list wants what the receipt has, as far as it says."""
        request = self._job.request
        known = {checksum.algorithm: str(checksum) for checksum in entry.checksums}
        wanted = (parse_checksum(text) for text in request.checksums or ())
        same = all(known.get(checksum.algorithm, str(checksum)) == str(checksum) for checksum in wanted)
        return same and request.size in (None, entry.size)

    def _kept(
        self, partial: PartialFile, sums: BlockSums, copied: tuple[tuple[Span, ...], int] | errors.GetmError
    ) -> None:
        """The undamaged blocks are in the partial file."""
        try:
            if isinstance(copied, errors.GetmError):
                raise copied
            spans, damaged = copied
            for span in spans:
                partial.wrote(span.start, len(span))
            partial.interrupt(keep=True)
            blocks = len(list(sums))
            self.replaced = f"{self.replaced}; {damaged} of {blocks} blocks {'is' if damaged == 1 else 'are'} damaged"
            _log.info("%s: repaired: %s", self._path, self.replaced)
            self._batch.ready(self._job)
        except errors.GetmError as error:
            self._job.fail(error)

    def check_version(self, info: HeadInfo) -> None:
        """Raises `RemoteChanged` where a repair would bring another version."""
        if self._pinned is not None and info.head.status != 304 and self._pinned.agrees(info.version) is False:
            raise errors.RemoteChanged(
                f"the object was replaced since this file was received: that was {self._pinned}, and the server has "
                f"{info.version}; the file is as it was, download the new one with --existing=verify or -N",
                url=self._job.url,
                expected=str(self._pinned),
                actual=str(info.version),
            )

    # What the server is asked -----------------------------------------------------------------------------------------

    @property
    def asks(self) -> bool:
        """Whether the next request is about the file that is there: nothing is opened for what may come."""
        return self._asks_head or self._here is not None

    def changes(self) -> dict[str, Any]:
        """What is different in that request."""
        return {"spans": ()} if self._asks_head else {} if self._here is None else {"unless": self._here.version}

    def begin(self, info: HeadInfo) -> bool:
        """The head of its response has come. True where nothing more is to be done with that."""
        if self._asks_head:
            # END has the statistics.
            return True
        here, self._here = self._here, None
        if here is None:
            return False
        not_modified = info.head.status == 304
        if here.is_current(info.head, info.size):
            if not_modified:
                self._is_current = True
            else:
                self._job.end_attempt(Stats(requests=1))
                self._leave("not modified: it has the validator that it had")
            return True
        if not_modified or self._target.is_named(info, self._path):
            self.replaced = "the server has another version"
            self._target.examined(self._path)
        if not_modified:
            # For a version that is not the one that was named.
            self._job.end_attempt(Stats(requests=1))
            self._batch.ready(self._job)
        return not_modified

    def complete(self, end: EndInfo, info: HeadInfo | None) -> bool:
        """Its response has ended. False where it was none of these."""
        if self._is_current:
            self._job.end_attempt(end.stats)
            self._leave("not modified")
        elif self._asks_head and info is not None:
            self._asks_head = False
            self._job.end_attempt(end.stats)
            if self._target.is_named(info, self._path):
                self._hold_against(self._expected(info))
            else:
                self._batch.ready(self._job)
        else:
            return False
        return True


def _size_of(path: str) -> int:
    """The size of a file in bytes; 0 for what is none."""
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:
        return 0
