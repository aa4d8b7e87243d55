"""What one download does where a file is at its target already: leave it, ask the server about it, or replace it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from getm import errors
from getm.core.lazy import importing
from getm.core.log import get_logger
from getm.core.stats import Stats
from getm.integrity.verdict import unverified
from getm.protocol.messages import EndInfo, HeadInfo

if TYPE_CHECKING:
    from getm.batch.existing import Examined, Expected, Here
    from getm.batch.job import Job
    from getm.batch.scheduler import Batch
    from getm.batch.target import Target
    from getm.files.receipt_lines import ReceiptEntry

_log = get_logger()

# Conditions of the caller's own: a 304 to them is an error, as nothing here would be what they refer to.
_CONDITIONS = frozenset({"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range"})


class ExistingFile:
    """The file at the target of one download, which `existing` is about. Everything happens in the batch's thread; the
    file is read in another one.

    With "verify", a file that is known by the list or a receipt needs no request, and any other one HEAD. With
    "update", one request is made on the condition that there is another version; its answer may also bring it.

    `replaced`: why it is downloaded again; None: it is not, or was not examined.
    """

    def __init__(self, job: Job, batch: Batch, target: Target) -> None:
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

    # What is there ----------------------------------------------------------------------------------------------------

    def examine(self) -> bool:
        """Before the first request: have the file examined. False where there is none, as far as that is known."""
        try:
            path = self._target.candidate()
            if path is not None:
                self._examine(path)
        except errors.GetmError as error:
            self._job.fail(error)
            return True
        return path is not None

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
        self._path, self._named_by = path, named_by
        self._batch.examine(self._job, path, self._expected(named_by))

    def _expected(self, info: HeadInfo | None) -> Expected:
        """What the file must be: by what the caller says of it, or a receipt, or else the head of a response."""
        with importing:
            from getm.batch.existing import Expected

        request, known = self._job.request, self._received()
        if request.checksums and not self._updates:
            return Expected.of_list(request.size, request.checksums)
        if known is not None and request.size in (None, known.size) and (known.checksums or self._updates):
            # A file that was not changed since need not be read for "update".
            return Expected.of_receipt(known, may_trust=self._updates)
        return Expected(request.size) if info is None else Expected.of_server(info.size, info.declared)

    def _received(self) -> ReceiptEntry | None:
        """What the receipt says of the file."""
        return None if self._batch.receipt is None else self._batch.receipt.find(self._path)

    def _of_same_url(self) -> ReceiptEntry | None:
        """The same, where it came from the URL of this download, apart from the query, which may be a signature: the
        validators of another one mean nothing."""
        entry = self._received()
        return entry if entry is not None and entry.url == self._job.url else None

    def examined(self, found: Examined | errors.GetmError) -> None:
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
        _log.info("%s: downloaded again: %s", self._path, why)
        self._target.examined(self._path)
        self._batch.ready(self._job)

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
                self._batch.examine(self._job, self._path, self._expected(info))
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
