"""What one download writes to where that is a URL: its name, and its upload to a store of objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from getm import errors
from getm.batch.object_upload import ObjectUpload
from getm.batch.target import Opened, disposition, note_suggested
from getm.core.lazy import importing
from getm.core.url_path import as_path
from getm.destinations.parts import algorithm_for
from getm.destinations.store import Origin
from getm.destinations.urls import in_folder, is_folder, shown
from getm.events import Failed
from getm.files.names import name_from_headers, name_from_url
from getm.integrity.values import Checksum
from getm.protocol.messages import HeadInfo

if TYPE_CHECKING:
    from getm.batch.attempt import SmallFile
    from getm.batch.existing_object import ExistingObject
    from getm.batch.job import Job
    from getm.batch.scheduler import Batch
    from getm.batch.settings import BatchOptions
    from getm.core.version import Version


def check_options(options: BatchOptions) -> None:
    """Raises `InvalidInput` for what is possible with files only."""
    if options.remote_time:
        raise errors.InvalidInput(
            "remote_time (-R) is for files: an object at a URL has the time at which it was put there"
        )
    if options.existing == "repair":
        raise errors.InvalidInput(
            'existing="repair" is for files: an object at a URL is replaced as a whole; use "verify"'
        )


class ObjectTarget:
    """See `Target`, whose methods it has, as far as a job calls them. `given`: the URL of the object, or of a folder
    for it. `on_ready`, `on_end`: see `ObjectUpload`. Nothing of it is there before all of it is verified; nothing of it
    can be resumed.

    `upload`: where its bytes go; None before its response has come.
    """

    partial = None
    stored = None
    stream = None
    takes_in_order = True
    may_block = False

    def __init__(
        self,
        batch: Batch,
        index: int,
        url: str,
        given: str,
        on_ready: Callable[[], None],
        on_end: Callable[[Checksum | errors.GetmError], None],
    ) -> None:
        check_options(batch.options)
        self.upload: ObjectUpload | None = None
        self._on_ready = on_ready
        self._on_end = on_end
        self.suggested: str | None = None
        self._batch = batch
        self._index = index
        self.url: str = url
        self._given = given
        self._is_folder = is_folder(given)
        # The URL of the object, once that is known.
        self._text: str | None = None if self._is_folder else given
        # That of an object that was examined, and may be replaced.
        self._examined: str | None = None

    @property
    def path(self) -> Path:
        return as_path(shown(self.text))

    @property
    def text(self) -> str:
        """The URL, as far as it is known."""
        return self._text or self._given

    @property
    def known_path(self) -> Path | None:
        return None if self._text is None else self.path

    # Before the response ----------------------------------------------------------------------------------------------

    def candidate(self) -> str:
        """The URL of an object that may be what is wanted, as far as that is known before the response."""
        return in_folder(self._given, name_from_url(self.url)) if self._is_folder else self._given

    def foresee(self) -> bool:
        if not self._is_folder:
            self._take(self._given)
        return True

    def small_file(self) -> SmallFile | None:
        return None

    def leave(self, text: str) -> None:
        if self._batch.options.existing != "keep":
            self._take(text)
        self._text = text

    def examined(self, text: str) -> None:
        self._examined = text

    def existing(self, job: Job) -> ExistingObject:
        with importing:
            from getm.batch.existing_object import ExistingObject
        return ExistingObject(job, self._batch, self)

    def begin_repair(self, text: str, version: Version) -> None:
        return None

    # By the response --------------------------------------------------------------------------------------------------

    def is_named(self, info: HeadInfo, text: str) -> bool:
        return self._resolved(info) == text

    def chosen_by_server(self, text: str) -> bool:
        return self._is_folder and text != self.candidate()

    def name_by(self, info: HeadInfo) -> bool:
        self._text = self._resolved(info)
        if self._batch.options.existing != "replace" and self._text != self._examined:
            return False
        self._take(self._text)
        self.suggested = note_suggested(self.url, disposition(info), lambda: self.path) if self._is_folder else None
        return True

    def open_for(self, info: HeadInfo) -> Opened:
        if not self.name_by(info):
            return Opened.NOT
        url = self.text
        media_type, declared = info.head.get("content-type"), [text for text, _ in info.declared]
        origin = Origin(info.size, algorithm_for(declared), media_type, info.head.content_coding())
        must_be_new = self.chosen_by_server(url) and url != self._examined
        self.upload = ObjectUpload(
            self._batch, url, origin, must_be_new=must_be_new, on_ready=self._on_ready, on_end=self._on_end
        )
        return Opened.READY

    def adopt(self, info: HeadInfo, small: SmallFile) -> bool:
        """No engine writes a file for it."""
        return False

    def _resolved(self, info: HeadInfo) -> str:
        if not self._is_folder:
            return self._given
        return in_folder(self._given, name_from_headers(disposition(info)) or name_from_url(self.url))

    def _take(self, text: str) -> None:
        self._batch.targets.take(shown(text), self._index)

    # The end ----------------------------------------------------------------------------------------------------------

    def interrupt(self, *, keep: bool) -> None:
        upload, self.upload = self.upload, None
        if upload is not None:
            upload.close(lambda: None)

    def in_place(self) -> None:
        self.upload = None

    def close(self, *, keep: bool, event: Failed | None = None) -> None:
        upload, self.upload = self.upload, None

        def then() -> None:
            if event is not None:
                self._batch.post(event)

        if upload is None:
            then()
        else:
            upload.close(then)
