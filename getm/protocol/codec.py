"""Messages of the pipe protocol as bytes: a fixed frame, and a MessagePack body for the kinds that have one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from getm.errors import ProtocolError
from getm.protocol.messages import Kind, Message, Record

FRAME = struct.Struct("<B3xIQII")
_FRAME_BYTES = FRAME.size
# Larger than any response head that the engine accepts; bounds what a broken peer can make this side allocate.
MAX_BODY_BYTES = 16 * 1024 * 1024

_R = TypeVar("_R", bound=Record)


def encode(kind: Kind, object: int = 0, offset: int = 0, slot: int = 0, length: int = 0) -> bytes:
    """A message without a body."""
    return FRAME.pack(kind, object, offset, slot, length)


def encode_body(kind: Kind, object: int, body: Record) -> bytes:
    """A message with a typed body."""
    data = msgspec.msgpack.encode(body)
    return FRAME.pack(kind, object, 0, 0, len(data)) + data


_KINDS = {int(kind): kind for kind in Kind}
_WITH_BODY = frozenset(
    {
        Kind.OPEN,
        Kind.WRITE,
        Kind.RENEWED,
        Kind.HEAD,
        Kind.NOTE,
        Kind.ADAPTED,
        Kind.END,
        Kind.FAILED,
        Kind.SERVE,
    }
)


class Decoder:
    """Bytes in, messages out, however the bytes were cut on the way. `kinds`: those that the other end may send."""

    def __init__(self, kinds: frozenset[Kind] = frozenset(Kind)) -> None:
        self._kinds = {int(kind): kind for kind in kinds}
        # The start of a message, and the length at which parsing it makes sense again.
        self._pending = bytearray()
        self._needed = 0

    def feed(self, data: bytes) -> Iterator[Message]:
        """All messages that `data` completes. Raises `ProtocolError` for what is no frame."""
        if self._pending:
            self._pending += data
            if len(self._pending) < self._needed:
                # A long body in many pieces: each is copied once.
                return
            data = bytes(self._pending)
            self._pending.clear()
        at, end = 0, len(data)
        self._needed = _FRAME_BYTES
        while end - at >= _FRAME_BYTES:
            number, object_number, offset, slot, length = FRAME.unpack_from(data, at)
            kind = self._kinds.get(number)
            if kind is None:
                got = _KINDS[number].name if number in _KINDS else number
                raise ProtocolError(f"expected a message on the engine's pipe, got kind {got}")
            stop = at + _FRAME_BYTES
            body = b""
            if kind in _WITH_BODY:
                if length > MAX_BODY_BYTES:
                    raise ProtocolError(f"{kind.name} announces a body of {length} bytes, over {MAX_BODY_BYTES}")
                if end - stop < length:
                    self._needed = _FRAME_BYTES + length
                    break
                body = data[stop : stop + length]
                stop += length
            at = stop
            yield Message(kind, object_number, offset, slot, length, body)
        self._pending += data[at:]


def decode_body(message: Message, type_: type[_R]) -> _R:
    """The typed body of a message; `ProtocolError` where it is not of that type."""
    try:
        return msgspec.msgpack.decode(message.body, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"{message.kind.name} has a body that is no {type_.__name__}: {error}") from None
