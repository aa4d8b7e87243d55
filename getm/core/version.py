"""One version of a representation, and what tells it from another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Validator:
    """What tells one version of a representation from another (RFC 9110, section 8.8)."""

    etag: str | None
    last_modified: str | None

    def __str__(self) -> str:
        return self.etag or self.last_modified or "none"
