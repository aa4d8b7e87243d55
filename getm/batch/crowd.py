"""Whether a host refuses one download for the sake of the others that come from it."""

from __future__ import annotations

from getm.batch.hosts import Host
from getm.errors import GetmError


class Crowd:
    """What one download knows of the others from its host. `refusal`: what the host has refused it with, until the
    others show whether that was for their sake."""

    def __init__(self) -> None:
        self.refusal: GetmError | None = None
        self._own_bytes = 0
        # What the others had brought when this was last asked, and whether that was more than the time before.
        self._others_bytes = 0
        self._progressed = False

    def received(self, host: Host, length: int) -> None:
        """Bytes of this download have come."""
        self._own_bytes += length
        host.received_bytes += length

    def has_progressed(self, host: Host) -> bool:
        """Whether others have received bytes from the host since this was last asked."""
        others_bytes = host.received_bytes - self._own_bytes
        self._progressed = others_bytes > self._others_bytes
        self._others_bytes = others_bytes
        return self._progressed

    def may_be_why(self, host: Host, *, has_asked: bool) -> bool:
        """Whether the host may have refused a request for the sake of others: they are still there, or have received
        bytes since it last did. One request more than that, as it may notice late that they have ended. `has_asked`:
        whether it had answered a request before."""
        had_progressed = has_asked and self._progressed
        return self.has_progressed(host) or had_progressed or host.jobs > 1

    def made_room(self, host: Host) -> bool:
        """After a refusal: whether others have received bytes since. Then the host only allows fewer connections at a
        time, and may be asked again."""
        return self._progressed or host.received_bytes - self._own_bytes > self._others_bytes

    def is_to_be_waited_for(self, host: Host) -> bool:
        """After a refusal: whether others are there, and have not received bytes since."""
        return host.jobs > 0 and not self.made_room(host)
