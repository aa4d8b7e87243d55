"""One version of an object, and what distinguishes it from another."""

from __future__ import annotations

import msgspec

from getm.errors import RemoteChanged


class Version(msgspec.Struct, frozen=True, gc=False):
    """One version of an object: its `size` in bytes (None: not known), its validators as sent, and `strong`, the one
    that If-Range takes and by which responses may be joined (RFC 9110, section 13.1.5; None: there is none)."""

    size: int | None = None
    etag: str | None = None
    last_modified: str | None = None
    strong: str | None = None

    def __str__(self) -> str:
        return self.etag or self.last_modified or "none"

    @property
    def joinable(self) -> bool:
        """Whether anything would show that two responses are of this version."""
        return self.size is not None and self.strong is not None

    def require(self, other: Version, url: str) -> None:
        """Raises `RemoteChanged` where `other` is another version of the object; `url` is redacted already."""
        for name, ours, theirs in (
            ("size", self.size, other.size),
            ("ETag", self.etag, other.etag),
            ("Last-Modified", self.last_modified, other.last_modified),
        ):
            if ours is not None and theirs is not None and ours != theirs:
                raise RemoteChanged(
                    f"the object was replaced while it was read: its {name} was {ours} and is now {theirs}; "
                    "read it again",
                    url=url,
                    expected=str(ours),
                    actual=str(theirs),
                )
