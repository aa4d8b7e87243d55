"""What came, compared with what was sent: every byte, as it comes."""

from __future__ import annotations

import numpy as np

from tests.chaos.serving import ServedPlan


class Received:
    """The bytes of one transfer so far. `wrong` holds a sentence for whatever no server sent."""

    def __init__(self, served: ServedPlan) -> None:
        self._served = served
        self._versions = [np.array(memoryview(each.body)) for each in served.versions]
        # Versions that all bytes so far fit, and whether they do so only but for a bit that a server inverted.
        self._fitting = dict.fromkeys(range(len(self._versions)), False)
        self._spans: list[tuple[int, int]] = []
        self.bytes = 0
        self.wrong: list[str] = []

    def take(self, offset: int, view: memoryview) -> None:
        """`view` is said to hold the object's bytes from `offset` on."""
        if not view:
            return
        came = np.frombuffer(view, np.uint8)
        self._spans.append((offset, offset + len(came)))
        self.bytes += len(came)
        for number in list(self._fitting):
            differing = self._differing(number, offset, came)
            if differing is None:
                del self._fitting[number]
            else:
                self._fitting[number] |= differing
        if not self._fitting and not self.wrong:
            self.wrong.append(f"the {len(came)} bytes at {offset} are of no version of the object, or of two")

    def _differing(self, number: int, offset: int, came: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> bool | None:
        """Whether bits that a server inverted are all that differs; None where anything else does."""
        sent = self._versions[number][offset : offset + len(came)]
        if len(sent) != len(came):
            return None
        if np.array_equal(sent, came):
            return False
        places = np.flatnonzero(sent != came)
        for place in places[:100]:
            inverted = int(sent[place]) ^ int(came[place])
            bit = 8 * (offset + int(place)) + inverted.bit_length() - 1
            if inverted & (inverted - 1) or number or bit not in self._served.flipped:
                return None
        return True if len(places) <= 100 else None

    def complete(self, verified: bool | None) -> None:
        """The transfer says that this was all of it. `verified`: that a checksum agreed; None: not told."""
        if self.wrong:
            return
        edge = 0
        for start, stop in sorted(self._spans):
            if start != edge:
                self.wrong.append(f"byte {min(start, edge)} came {'twice' if start < edge else 'never'}")
                return
            edge = stop
        plan = self._served.plan
        whole = [number for number in self._fitting if edge == len(self._versions[number])]
        lied = not whole and edge in self._served.lied_sizes
        if not whole and not lied:
            self.wrong.append(f"it ended after {edge} bytes")
        elif plan.declared != "none" and lied:
            self.wrong.append(f"a checksum was declared, and the {edge} bytes of a wrong length passed")
        elif plan.declared != "none" and all(self._fitting[number] for number in whole):
            self.wrong.append("a checksum was declared, and an inverted bit passed")
        elif plan.declared == "caller" and 0 not in whole:
            self.wrong.append("the caller declared a checksum, and another version passed")
        elif verified not in (None, plan.declared != "none"):
            self.wrong.append(f"declared: {plan.declared}; verified: {verified}")
