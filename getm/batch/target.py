"""What one download writes to: its path, as soon as that is known, and the file or stream behind it."""

from __future__ import annotations

import contextlib
import enum
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from getm import errors
from getm.batch.attempt import SmallFile
from getm.batch.folders import ExistingFolder
from getm.core.lazy import importing
from getm.core.log import get_logger
from getm.core.version import Version
from getm.events import Failed
from getm.files.journal import journal_name
from getm.files.lock import private_name
from getm.files.names import changed_name, name_from_url, resolve_target, target_in, unusable
from getm.files.os_errors import as_target_error, target_error
from getm.files.partial import PartialFile, open_partial
from getm.files.stored import StoredFile
from getm.files.streams import StreamTarget, may_be_file, needs_order
from getm.protocol.messages import HeadInfo

if TYPE_CHECKING:
    from getm.batch.existing_file import ExistingFile
    from getm.batch.job import Job
    from getm.batch.scheduler import Batch

_log = get_logger()


class Opened(enum.Enum):
    """What `Target.open_for` has done."""

    READY = "open for what comes after the head"
    NOT = "the file exists, and is to be kept, or to be examined first"
    WITH_PART = "open, with a part of the object that was not known when the request was made"


class Target:
    """What one download writes to. Everything happens in the batch's thread.

    `given`: the path that was given, as `resolve_target` reads it. `root`: the folder that the target may not leave,
    not even by symbolic links; None: it may be anywhere.

    The bytes are in `partial`, a file that is being written, in `stored`, one that is complete, or go to `stream`; all
    None before. `takes_in_order`: whether it is something that takes bytes in order only; `may_block`: and may block
    for ever.
    `suggested`: the name by the server or the URL, where a safe name was made of it.
    """

    def __init__(self, batch: Batch, index: int, url: str, given: str | None, root: str | None) -> None:
        self.partial: PartialFile | None = None
        self.stored: StoredFile | None = None
        self.stream: StreamTarget | None = None
        self.upload: None = None
        self.takes_in_order: bool = False
        self.may_block: bool = False
        self.suggested: str | None = None
        self._batch = batch
        self._index = index
        self.url: str = url
        self._given = given
        self._root = root
        # The path, once it is known (a Path takes ten times as long to make), and whether only the URL suggests it.
        self._text: str | None = None
        self._is_guess = False
        # The path of a file that was examined, and may be replaced.
        self._examined: str | None = None
        # The folder that the given path names, where it was there already.
        self._into: ExistingFolder | None = None

    @property
    def path(self) -> Path:
        """The path, as far as it is known."""
        return self.known_path or Path(self._given or ".")

    @property
    def known_path(self) -> Path | None:
        return None if self._text is None else _as_path(self._text)

    def chosen_by_server(self, text: str) -> bool:
        """Whether that path has a name that only the server chose."""
        is_given = self._into is None and bool(self._given) and text == str(Path(self._given or ""))
        return not is_given and os.path.basename(text) != name_from_url(self.url)  # noqa: PTH119

    # Before the response ----------------------------------------------------------------------------------------------

    def candidate(self) -> str | None:
        """The path of a file that may be what is wanted, as far as that is known before the response; None where there
        is none. Raises `TargetError` for a path that cannot be used."""
        self._find_folder()
        if self.takes_in_order:
            return None
        if self._into is not None:
            return os.path.join(self._into.path, name_from_url(self.url))  # noqa: PTH118
        return str(resolve_target(self._given, url=self.url, headers=(), may_exist=True))

    def existing(self, job: Job) -> ExistingFile:
        """The file that may be there."""
        with importing:
            from getm.batch.existing_file import ExistingFile
        return ExistingFile(job, self._batch, self)

    def is_named(self, info: HeadInfo, text: str) -> bool:
        """Whether the response names that path. Raises `TargetError`."""
        return self._resolve(info, may_exist=True) == text

    def examined(self, text: str) -> None:
        """The file at that path was examined, and may be replaced."""
        self._examined = text

    def begin_repair(self, text: str, version: Version) -> PartialFile | None:
        """A partial file for that version of the object, which takes the place of the file at that path; what an
        earlier run has left of it counts. None where a file is there that was not examined. Raises `TargetError`."""
        if not self._open(text) or self.partial is None:
            return None
        saved = self.partial.saved
        if saved is None or (saved.size, saved.strong) != (version.size, version.strong):
            self.partial.begin(version)
        return self.partial

    def leave(self, text: str) -> None:
        """The file at that path stays. Raises `TargetError` where another download writes to it."""
        if self._batch.options.existing != "keep":
            self._batch.targets.take(text, self._index)
        self._text = text

    def foresee(self) -> bool:
        """Find and open what is known before a response is; harmless when repeated. False where the file exists, and
        comes first. Raises `GetmError` for a path that cannot be used."""
        if self._text is None:
            self._find_folder()
            self._text = str(Path(self._given or "")) if self._is_fixed() else self._foreseen()
        if self._text is None or self.stream is not None or self.partial is not None:
            return True
        return self._open(self._text)

    def _find_folder(self) -> None:
        if self._into is None:
            self._into = self._existing_folder(self._given)
            self.takes_in_order = self.may_block = self._into is None and needs_order(self._given)

    def _existing_folder(self, path: str | None) -> ExistingFolder | None:
        try:
            return self._batch.folders.existing(path, self._root)
        except OSError as error:
            raise target_error(error, self.path) from error

    def _is_fixed(self) -> bool:
        """Whether the path is known before the response is: neither a folder, nor something to be written in order."""
        path = self._given
        if not path or path.endswith(os.sep) or self._batch.options.dry_run:
            return False
        try:
            return may_be_file(path)
        except ValueError:
            raise unusable(path) from None

    def _foreseen(self) -> str | None:
        """The path by the URL alone, where an earlier run has left partial data under that name, most likely of the
        same object: then only the rest need be requested. None where there is none."""
        options = self._batch.options
        if not options.resume or options.existing == "keep" or options.dry_run or self.takes_in_order:
            return None
        if self._into is not None:
            name = name_from_url(self.url)
            self._is_guess = self._into.has_journal(name)
            return os.path.join(self._into.path, name) if self._is_guess else None  # noqa: PTH118
        target = resolve_target(self._given, url=self.url, headers=())
        self._is_guess = os.path.lexists(target.parent / journal_name(target.name))
        return str(target) if self._is_guess else None

    def small_file(self) -> SmallFile | None:
        """A name for the object's file, for an engine to write it by itself; None where its folder is not there yet."""
        if self.partial is not None:
            return SmallFile(self.partial.folder, private_name())
        into = self._into
        if into is None:
            folder = str(Path.cwd()) if self._given is None else self._given
            into = self._existing_folder(f"{folder}{os.sep}")
        return None if into is None else SmallFile(into.folder, private_name())

    # By the response --------------------------------------------------------------------------------------------------

    def name_by(self, info: HeadInfo) -> bool:
        """Have the path that the response names. False where the file exists, and comes first. Raises `TargetError`."""
        if self._text is not None and not self._is_guess:
            return True
        text = self._resolved(info)
        if not self._settle(text) and not self._take(text):
            return False
        self._note_suggested(info)
        return True

    def open_for(self, info: HeadInfo) -> Opened:
        """Have the path that the response names, and open it for what comes after the head. Raises `TargetError`."""
        if self.takes_in_order:
            if self.stream is None:
                self._text = str(self.path)
                # A FIFO without a reader blocks here.
                self.stream = StreamTarget.open(self.path)
            return Opened.READY
        if self._text is not None and not self._is_guess:
            return Opened.READY
        text = self._resolved(info)
        known = self._settle(text)
        if not known and not self._open(text):
            return Opened.NOT
        self._note_suggested(info)
        # Whether an earlier run seems to have left a part of this very object.
        saved, version = None if self.partial is None else self.partial.saved, info.version
        same = saved is not None and (saved.size, saved.strong) == (version.size, version.strong)
        return Opened.WITH_PART if not known and (info.resumed or same) else Opened.READY

    def adopt(self, info: HeadInfo, small: SmallFile) -> bool:
        """All of a small object is in that file. False where the target exists, and comes first. Raises
        `TargetError`; the file is still the caller's then."""
        if not self.name_by(info):
            return False
        if self.partial is not None:
            # What an earlier run has left is of no use any more.
            self.partial.discard()
            self.partial = None
        name = os.path.basename(self._text or "")  # noqa: PTH119
        self.stored = StoredFile(small.folder, small.name, name, fsync=self._batch.options.fsync)
        return True

    def _settle(self, text: str) -> bool:
        """The path is that one; whether this was known. Partial data under another name that was guessed is left
        alone."""
        guessed, self._is_guess = self._is_guess, False
        if guessed and text != self._text:
            self._batch.targets.leave(self._text or "")
            self._text = None
            self.close(keep=True)
        return text == self._text

    def _take(self, text: str) -> bool:
        """Have that path for this download; False where a file is there that is to be kept, or to be examined first."""
        exists = self._batch.options.existing != "replace" and text != self._examined and os.path.lexists(text)
        if not exists:
            self._batch.targets.take(text, self._index)
        self._text = text
        return not exists

    def _open(self, text: str) -> bool:
        """Write to that path, where an earlier run may have left something; False where a file there comes first."""
        if not self._take(text):
            return False
        options, path = self._batch.options, Path(text)
        if self._into is not None:
            folder = self._into.folder
        else:
            with as_target_error(path):
                folder = self._batch.folders.open(os.path.dirname(text), self._root)  # noqa: PTH120
        self.partial = open_partial(path, resume=options.resume, folder=folder, fsync=options.fsync)
        return True

    def _resolved(self, info: HeadInfo) -> str:
        try:
            return self._resolve(info, may_exist=self._batch.options.existing != "replace")
        except errors.TargetError:
            # Where it is another download's of this batch, that is what the caller can do something about.
            self._batch.targets.take(self._resolve(info, may_exist=True), self._index)
            raise

    def _resolve(self, info: HeadInfo, *, may_exist: bool) -> str:
        headers = disposition(info)
        if self._into is not None:
            return target_in(self._into.path, url=self.url, headers=headers, may_exist=may_exist)
        return str(resolve_target(self._given, url=self.url, headers=headers, may_exist=may_exist))

    def _note_suggested(self, info: HeadInfo) -> None:
        self.suggested = note_suggested(self.url, disposition(info), lambda: self.path)

    # The end ----------------------------------------------------------------------------------------------------------

    def interrupt(self, *, keep: bool) -> None:
        """The object is asked for again: for what is missing where what came is of use (`keep`), else for all of it.
        Raises `TargetError`."""
        if self.partial is not None:
            self.partial.interrupt(keep=keep)
        if self.stream is not None:
            self.stream.interrupt()

    def in_place(self) -> None:
        """The file is where it was to go."""
        self.stored = None
        self.close(keep=True)

    def close(self, *, keep: bool, event: Failed | None = None) -> None:
        """Close everything; `event` is posted when a later run could use the partial data."""
        partial, self.partial = self.partial, None
        stored, self.stored = self.stored, None
        if self.stream is not None:
            self.stream.close()
        if stored is not None:
            with contextlib.suppress(OSError):
                stored.remove()
        if partial is not None and partial.begun:
            self._batch.close_file(partial, keep=keep, event=event)
        elif event is not None:
            self._batch.post(event)


# Asked for when a download begins and when it has ended, with some hundred others between.
_as_path = functools.lru_cache(maxsize=1024)(Path)


def disposition(info: HeadInfo) -> tuple[tuple[str, str], ...]:
    """The header fields, where one of them may name the file: most responses have none."""
    return info.head.headers if "content-disposition" in info.head.lines.lower() else ()


def note_suggested(url: str, headers: tuple[tuple[str, str], ...], path: Callable[[], Path]) -> str | None:
    """What the server or the URL calls it, where that is no safe name and another one was made of it; logged."""
    suggested = changed_name(url, headers)
    if suggested is not None:
        _log.warning("%s is called %r, which is no safe name; saved as %s", url, suggested, path())
    return suggested
