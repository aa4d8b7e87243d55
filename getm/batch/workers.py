"""The other threads of a batch: they wait for disks and stores, and read files that are there. What follows from their
work happens in the batch's own thread."""

from __future__ import annotations

import concurrent.futures
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from getm import errors
from getm.core.lazy import importing

if TYPE_CHECKING:
    from getm.batch.existing import Examiner
    from getm.batch.uploads import Uploads
    from getm.destinations.store import Stores

_FINISHERS = 4

_T = TypeVar("_T")
_Task = Callable[[], None]

Follow = Callable[[errors.TargetError | None], None]
Then = Callable[[_T | errors.GetmError], None]


class Workers:
    """Has work done in other threads. All methods are called in the batch's thread, and call back in it: what has been
    done is followed up by `follow_up`.

    Attributes:
        pending: How many tasks have not been followed up.
        asked_stores: How many of these wait for a store of objects.

    Args:
        awaken: Wakes the batch's thread, for `follow_up`. Called in any thread.
    """

    def __init__(self, awaken: Callable[[], None]) -> None:
        self.pending: int = 0
        self.asked_stores: int = 0
        self._awaken = awaken
        self._done: deque[tuple[Follow, BaseException | None]] = deque()
        self._finishers: concurrent.futures.ThreadPoolExecutor | None = None
        self._examiner: Examiner | None = None
        self._uploads: Uploads | None = None

    def run(self, submit: Callable[[_Task], None], work: _Task, follow: Follow) -> None:
        """`submit` the work to another thread, and then `follow`, with its error."""
        self.pending += 1

        def task() -> None:
            failure = None
            try:
                work()
            except BaseException as error:
                failure = error
            self._done.append((follow, failure))
            self._awaken()

        try:
            submit(task)
        except RuntimeError:
            # The main thread has ended: executors cannot be made any more, and take nothing.
            task()

    def on_disk(self, work: _Task, follow: Follow) -> None:
        """Do `work`, which waits for the disk, and then `follow`, with its error."""

        def submit(task: _Task) -> None:
            if self._finishers is None:
                # Asking for it imports its module.
                with importing:
                    executor = concurrent.futures.ThreadPoolExecutor
                self._finishers = executor(_FINISHERS, thread_name_prefix="getm-finish")
            self._finishers.submit(task)

        self.run(submit, work, follow)

    def examine(self, work: Callable[[Examiner], _T], then: Then[_T]) -> None:
        """Do `work`, which reads files that are there, and call `then` with what it returns or raises."""
        if self._examiner is None:
            with importing:
                from getm.batch.existing import Examiner
            self._examiner = Examiner()
        examiner = self._examiner
        self._ask(examiner.submit, lambda: work(examiner), then)

    def in_store(self, work: Callable[[Stores], _T], then: Then[_T]) -> None:
        """Do `work`, which waits for a store of objects, and call `then` with what it returns or raises."""
        if self._uploads is None:
            with importing:
                from getm.batch.uploads import Uploads
            self._uploads = Uploads()
        uploads = self._uploads
        self.asked_stores += 1

        def follow(answer: _T | errors.GetmError) -> None:
            self.asked_stores -= 1
            then(answer)

        self._ask(uploads.submit, lambda: work(uploads.stores), follow)

    def _ask(self, submit: Callable[[_Task], None], work: Callable[[], _T], then: Then[_T]) -> None:
        answers: list[_T | errors.GetmError] = []

        def task() -> None:
            try:
                answers.append(work())
            except errors.GetmError as error:
                answers.append(error)

        self.run(submit, task, lambda _: then(answers[0]))

    def follow_up(self) -> None:
        """Follow up what has been done. Raises what was a bug."""
        bug = None
        while self._done:
            follow, failure = self._done.popleft()
            self.pending -= 1
            if failure is None or isinstance(failure, errors.TargetError):
                follow(failure)
            else:
                bug = bug or failure
        if bug is not None:
            # A bug in getm must end the batch, not leave it waiting.
            raise bug

    def close(self) -> None:
        """End the threads. One that waits for a store which does not answer is left alone."""
        if self._finishers is not None:
            self._finishers.shutdown()
        if self._examiner is not None:
            self._examiner.close()
        if self._uploads is not None and not self.asked_stores:
            self._uploads.close()
