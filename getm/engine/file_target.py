"""The file that an object goes to, in the engine that writes it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from getm import errors
from getm.engine.plan import Plan
from getm.engine.sinks.file import FileSink, target_error, write_new_file
from getm.protocol.messages import FileRequest, FolderEntry

if TYPE_CHECKING:
    from getm.engine.connection import EngineConnection


class FileTarget:
    """Writes an object to the file that a WRITE names, or, where all of it is small, to one of its own at the end.

    Args:
        connection: Of the consumer.
        number: Of the object.
        request: What the consumer says of the file.
        failed: Called where it cannot be written.
    """

    def __init__(
        self,
        connection: EngineConnection,
        number: int,
        request: FileRequest,
        failed: Callable[[errors.TargetError], None],
    ) -> None:
        self._connection = connection
        self._number = number
        self._request = request
        self._failed = failed
        # What writes it, unless nothing has come; its folder; what a WRITE has named.
        self._sink: FileSink | None = None
        self._folder = -1
        self._folders = ExitStack()
        self._named: FolderEntry | None = None

    def open_folder(self) -> None:
        """Open the folder of a small file: from now on the next one in it finds it open. Raises `TargetError`."""
        if self._request.small is not None:
            self._open_folder(self._request.small)

    def _open_folder(self, entry: FolderEntry) -> None:
        if self._folder < 0:
            try:
                self._folder = self._folders.enter_context(self._connection.folders.using(entry.folder))
            except OSError as error:
                raise target_error(error, entry) from error

    def is_small(self, plan: Plan) -> bool:
        """Whether the object is written to a file of its own when all of it is there, and END is all that is said."""
        file, size = self._request, plan.version.size
        if file.small is None or size is None or plan.workers > 1 or plan.resumed:
            return False
        # Never several slots: others may wait for them.
        return size < file.small_bytes and size <= self._connection.slot_bytes

    def add(self, offset: int, slot: int, length: int, new: int) -> None:
        """Bytes of it are in a slot: see `FileSink.add`."""
        self._file_sink().add(offset, slot, length, new)

    def name(self, entry: FolderEntry) -> None:
        """The consumer names the file."""
        self._named = entry
        try:
            self._open_folder(entry)
            self._file_sink().open(self._folder, entry.name)
        except errors.TargetError as error:
            self._failed(error)
        except OSError as error:
            self._failed(target_error(error, entry))

    def _file_sink(self) -> FileSink:
        if self._sink is None:
            self._sink = self._connection.file_sink(self._number, lambda error: self._failed(target_error(error, None)))
        return self._sink

    async def finish(self) -> None:
        """Wait until the disk has taken what has come."""
        if self._sink is not None:
            await self._sink.finish()

    def store(self) -> None:
        """Write a small object, all of which is there and verified. Raises `TargetError`."""
        small = self._request.small
        if small is None:
            return
        contents = () if self._sink is None else self._sink.contents()
        try:
            write_new_file(self._folder, small.name, self._request.mode, contents)
            self._connection.stored(small)
        except OSError as error:
            raise target_error(error, small) from error

    def close(self) -> None:
        if self._sink is not None:
            self._sink.close()
        if self._named is not None and not self._named.resumable:
            # The consumer puts it in place, or removes it.
            self._connection.folders.stored(self._named)
        self._folders.close()
