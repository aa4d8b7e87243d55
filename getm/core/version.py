"""One version of an object, and what distinguishes it from another."""

from __future__ import annotations

import re

import msgspec

from getm.errors import RemoteChanged

# RFC 9110, section 8.8.3; what is beyond ASCII may have come in another encoding.
_ENTITY_TAG = re.compile(r'(?:W/)?"[!#-~]*"')
# The form that all must send, and the obsolete ones (section 5.6.7): as it came.
_DATE = re.compile(r"[A-Za-z]{3}[A-Za-z]*,? [A-Za-z0-9 :+-]{1,60}")


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

    def as_received(self) -> Version:
        """With the validator for If-Range, of a version of which only the others were kept: a strong entity tag; or
        else the time, where the bytes will be verified: whether it was old enough then is not known any more."""
        if self.etag is None:
            return msgspec.structs.replace(self, strong=self.last_modified)
        strong = self.etag.startswith('"') and _ENTITY_TAG.fullmatch(self.etag) is not None
        return msgspec.structs.replace(self, strong=self.etag if strong else None)

    def condition(self) -> tuple[str, str] | None:
        """The header field of a request that this version answers with 304 where it still is the current one (RFC 9110,
        sections 13.1.2 and 13.1.3); None where it has no validator. One field: If-Modified-Since is ignored beside
        If-None-Match, and servers that do not know the latter would believe the weaker of the two."""
        if self.etag is not None and _ENTITY_TAG.fullmatch(self.etag):
            return "If-None-Match", self.etag
        if self.last_modified is not None and _DATE.fullmatch(self.last_modified):
            return "If-Modified-Since", self.last_modified
        return None

    def agrees(self, other: Version) -> bool | None:
        """Whether both are the same, as far as that can be told: by the size; by the entity tag in the weak comparison,
        which If-None-Match takes (section 8.8.3.2); or else by the time. None where they have no validator in common.
        """
        if self.size is not None and other.size is not None and self.size != other.size:
            return False
        if self.etag is not None and other.etag is not None:
            return self.etag.removeprefix("W/") == other.etag.removeprefix("W/")
        if self.last_modified is not None and other.last_modified is not None:
            return self.last_modified == other.last_modified
        return None

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
