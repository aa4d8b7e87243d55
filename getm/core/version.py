"""One version of a representation, and what distinguishes it from another."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Validator:
    """What distinguishes one version of a representation from another (RFC 9110, section 8.8)."""

    etag: str | None
    last_modified: str | None

    def __str__(self) -> str:
        return self.etag or self.last_modified or "none"


class Version(msgspec.Struct, frozen=True):
    """One version of an object: its `size` in bytes (None: not known), its validators as sent, and `strong`, the one
    that If-Range takes and by which responses may be joined (RFC 9110, section 13.1.5; None: there is none)."""

    size: int | None = None
    etag: str | None = None
    last_modified: str | None = None
    strong: str | None = None
