"""The order of the messages on one pipe.

For each object: OPEN, then (HEAD PART* END) or (HEAD PART*)? FAILED, with PREFIXes before the PART of their slot,
ADAPTEDs between HEAD and the end, and NOTEs and EXPIREDs anywhere before it. For one that goes to a file: WRITTEN in
place of PART; an END that has the head is all that comes of a small one. A SPAN is another OPEN, and ONLY all that
comes of a small one. Objects are independent of each other, and many may be open on one pipe. `Conversation` holds this
order on either end; a message out of order is a `ProtocolError`.
"""

from __future__ import annotations

import enum

from msgspec import Struct, field

from getm.errors import ProtocolError
from getm.protocol.messages import (
    ADAPTED,
    CANCEL,
    END,
    EXPIRED,
    FAILED,
    GRANT,
    HEAD,
    HEDGE,
    MORE,
    NOTE,
    ONLY,
    OPEN,
    PART,
    PLACE,
    PREFIX,
    RENEWED,
    RETURN,
    SPAN,
    WRITE,
    WRITTEN,
    Kind,
)


class Phase(enum.StrEnum):
    """The phase of one object. Strings, since their hash is cached: a phase is looked up for every message."""

    UNOPENED = "not open"
    OPENED = "opened"
    STREAMING = "streaming"
    OVER = "over"


UNOPENED, OPENED, STREAMING, OVER = Phase
# phase -> message -> phase after it.
_ORDER: dict[Phase, dict[Kind, Phase]] = {
    UNOPENED: {OPEN: OPENED, SPAN: OPENED},
    OPENED: {HEAD: STREAMING, NOTE: OPENED, EXPIRED: OPENED, ONLY: OVER, END: OVER, FAILED: OVER},
    STREAMING: {
        PREFIX: STREAMING,
        PART: STREAMING,
        WRITTEN: STREAMING,
        NOTE: STREAMING,
        EXPIRED: STREAMING,
        ADAPTED: STREAMING,
        END: OVER,
        FAILED: OVER,
    },
}
# Slots belong to the pipe: GRANT and RETURN may name an object that has ended. A WRITE, PLACE, CANCEL, HEDGE, MORE or
# RENEWED may have crossed the object's own END or FAILED on the way.
_ALWAYS = frozenset({GRANT, RETURN, WRITE, PLACE, CANCEL, HEDGE, MORE, RENEWED})


class Conversation(Struct):
    """The order of one pipe's messages, held on either end: call `pass_` for each message sent or received."""

    # Of the objects that have not ended.
    phases: dict[int, Phase] = field(default_factory=dict)
    _last_opened: int = 0

    def pass_(self, kind: Kind, object_number: int) -> None:
        """Raises `ProtocolError` for a message that may not come now."""
        before = self.phases.get(object_number, UNOPENED)
        after = _ORDER[before].get(kind)
        if after is before:
            return
        if after is None:
            if kind in _ALWAYS:
                return
            raise ProtocolError(f"{kind.name} may not come for object {object_number}, which is {before.value}")
        if before is UNOPENED:
            if object_number <= self._last_opened:
                raise ProtocolError(f"{kind.name} bears the number {object_number}, which was used before")
            self._last_opened = object_number
        if after is OVER:
            del self.phases[object_number]
        else:
            self.phases[object_number] = after
