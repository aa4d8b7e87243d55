"""The servers' side of a transfer: its object, and a fault for each request that the plan has one for."""

from __future__ import annotations

import base64
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from getm.testing import Gate, Pace, Reply, Request, failure, no_reply, redirect
from getm.testing.script import answer
from tests.chaos.plan import Fault, Plan, Refusal, Version, version

_LATE_S = 0.05
_THROTTLED = Pace(step_bytes=256 * 1024, interval_s=0.004)
# Below the floor of bytes a second that transfers are given here.
_TRICKLE = Pace(step_bytes=1, interval_s=0.02)
# What a reason phrase and a field's value may hold (RFC 9110, section 5.5): most of it is neither ASCII nor UTF-8.
_TEXT_BYTES = "".join(map(chr, (0x09, *range(0x20, 0x7F), *range(0x80, 0x100))))
_LONG_FIELDS: dict[str, str | list[str] | None] = {f"X-{number}": "a" * 65_000 for number in range(254)}
_DATE = "Wed, 01 Jul 2026 00:00:00 GMT"
_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
_DIGEST_FIELDS = {"sha256": "x-checksum-sha256", "md5": "x-checksum-md5", "crc32c": "x-goog-hash"}


class ServedPlan:
    """Answers the requests of one transfer.

    `versions`: what the object may be. `flipped`: bits of version 0 that were sent inverted, by number. `lied_sizes`:
    lengths that a server claimed, or that its connection's end told, instead of the true one. `injected`: faults by
    kind, as requests met them. `asked` is set once a request has come. `disturb` does to an engine what a kind of fault
    says.
    """

    def __init__(self, plan: Plan, never: Gate, disturb: Callable[[str], None]) -> None:
        self.plan = plan
        self.asked = threading.Event()
        self.versions = [version(plan, 0)]
        if "other version" in plan.kinds:
            self.versions.append(version(plan, 1))
        self.flipped: set[int] = set()
        self.lied_sizes: set[int] = set()
        self.injected: Counter[str] = Counter()
        self.requests = 0
        self._never = never
        self.disturb = disturb
        self._granted: list[Request] = []
        self._numbers = itertools.count()
        self._tokens = itertools.count()
        self._token_uses: Counter[str] = Counter()
        self._replaced = False
        self._paths = {name: f"/{name}/{plan.seed:x}" for name in ("object", "origin", "circle", "mirror")}

    @property
    def path(self) -> str:
        """Where the client begins."""
        return self._paths["origin" if self.plan.redirected else "object"]

    @property
    def bad_mirror_path(self) -> str:
        return self._paths["mirror"]

    @property
    def paths(self) -> list[str]:
        return [*self._paths.values(), *(f"{self._paths['object']}/{token}" for token in range(8))]

    def script(self, request: Request) -> Reply:
        """In the thread of a server: the next reply."""
        self.asked.set()
        if request.path == self._paths["circle"]:
            return redirect(self._paths["circle"])
        if request.path == self._paths["origin"]:
            return redirect(f"{self._paths['object']}/{min(next(self._tokens), 7)}?X-Amz-Signature=secret")
        if request.path == self._paths["mirror"]:
            return self._bad_mirror(request)
        limit = self.plan.token_requests
        if limit is not None and request.path.endswith("/0") and self._token_uses[request.path] >= limit:
            self.injected["token run out"] += 1
            return failure(403)
        if self.plan.granted is not None:
            if sum(each.outcome == "open" for each in self._granted) >= self.plan.granted:
                self.injected["not granted"] += 1
                return failure(429)
            self._granted.append(request)
        if self.plan.refusal is not None and request.header("Range") is not None:
            self.injected["range refused"] += 1
            return self._refuse(self.plan.refusal)
        self.requests += 1
        fault = self._fault(next(self._numbers))
        # A request whose connection closes before the end of a head is repeated as it was, redirect target and all.
        headless = fault is not None and (fault.kind == "half a head" or "without reply" in fault.kind)
        self._token_uses[request.path] += not headless
        reply = self._good(self.versions[1 if self._replaced else 0])
        if fault is None:
            return reply
        spoilt = self._spoil(fault, reply, request)
        if spoilt is not reply:
            self.injected[fault.kind] += 1
        return spoilt

    def _refuse(self, refusal: Refusal) -> Reply:
        whole = self._good(self.versions[1 if self._replaced else 0])
        match refusal:
            case "200":
                return replace(whole, ranges=False)
            case "206 of everything":
                return replace(whole, span=(0, len(whole.body))) if whole.body else whole
            case "206 without Content-Range":
                return replace(whole, headers={**whole.headers, "Content-Range": None})
            case "closed":
                return no_reply("close")
            case "416":
                # The size is that of the object (RFC 9110, section 15.5.17): who says another one has another object.
                return replace(failure(416), headers={"Content-Range": f"bytes */{len(whole.body)}"})
        return failure(int(refusal))

    def _cut(self, reply: Reply, request: Request, at: int) -> Reply:
        if reply.framing == "close" and not _asked(reply, request)[2]:
            # The end of the connection is all there is to tell the end of the content by (RFC 9112, section 6.3).
            self.lied_sizes.add(at)
        return replace(reply, cut_at=at)

    def _bad_mirror(self, request: Request) -> Reply:
        self.injected[f"mirror {self.plan.bad_mirror}"] += 1
        match self.plan.bad_mirror:
            case "cuts":
                return self._cut(self._good(self.versions[0]), request, self.plan.seed % 700_000)
            case "other bytes":
                return Reply(body=bytes(self.plan.size), etag='"other"')
        return failure((403, 404, 503)[self.plan.seed % 3])

    def _fault(self, number: int) -> Fault | None:
        faults = self.plan.faults
        if number < len(faults) and faults[number] is not None:
            return faults[number]
        return next((fault for fault in reversed(faults[:number]) if fault is not None and fault.lasting), None)

    def _good(self, current: Version) -> Reply:
        headers: dict[str, str | list[str] | None] = {"Date": _DATE}
        if self.plan.declared == "header":
            name, value = _DIGEST_FIELDS[self.plan.algorithm], current.checksum.partition(":")[2]
            headers[name] = f"crc32c={_base64(value)}" if name == "x-goog-hash" else value
        return Reply(
            body=current.body,
            etag=current.etag,
            last_modified=current.last_modified,
            framing=self.plan.framing,
            headers=headers,
        )

    def _spoil(self, fault: Fault, reply: Reply, request: Request) -> Reply:
        """`reply` with a fault; the same reply where the fault has nothing to work on."""
        start, stop, partial = _asked(reply, request)
        length = stop - start
        at = int(fault.at * length)
        match fault.kind:
            case "late":
                return replace(reply, delay_s=_LATE_S)
            case "throttled":
                return replace(reply, pace=_THROTTLED)
            case "validator dropped":
                # Only where another one is left: without any, nothing could tell that it is the same version.
                return (
                    reply
                    if reply.etag is None or reply.last_modified is None or not partial or start == 0
                    else (replace(reply, last_modified=None))
                )
            case "early hints":
                made = answer(reply, request)
                return (
                    reply
                    if reply.framing != "length"
                    else replace(reply, raw=_HINTS + made.head + bytes(made.body), body=b"")
                )
            case "any phrase":
                return replace(reply, reason=self._any_bytes(fault))
            case "any bytes":
                return replace(reply, headers={**reply.headers, "X-Any": self._any_bytes(fault)})
            case "bytes after the body":
                return (
                    replace(reply, extra=self._any_bytes(fault).encode("latin-1"))
                    if reply.framing != "close"
                    else reply
                )
            case "engine stopped":
                self.disturb(fault.kind)
                return replace(reply, pace=_THROTTLED)
            case "closed without reply":
                return no_reply("close")
            case "reset without reply":
                return no_reply("reset")
            case "half a head":
                head = answer(reply, request).head
                return Reply(raw=head[: 1 + int(fault.at * (len(head) - 2))], then="close")
            case "not now":
                return failure(503 if start % 2 else 429, retry_after="0")
            case "cut":
                return self._cut(reply, request, at)
            case "reset":
                return replace(reply, cut_at=at, then="reset")
            case "stall":
                return reply if not length else replace(reply, stall_at=min(at, length - 1), gate=self._never)
            case "trickle":
                return reply if not length else replace(reply, pace=_TRICKLE)
            case "short range":
                return replace(reply, span=(start, start + max(1, at))) if partial and length > 1 else reply
        return self._hostile(fault, reply, start, stop, partial)

    def _any_bytes(self, fault: Fault) -> str:
        """As Latin-1, and never empty."""
        return "".join(random.Random(f"{self.plan.seed} {fault.at}").choices(_TEXT_BYTES, k=1 + int(100 * fault.at)))

    def _hostile(self, fault: Fault, reply: Reply, start: int, stop: int, partial: bool) -> Reply:
        at = start + int(fault.at * (stop - start))
        match fault.kind:
            case "refused":
                return failure((403, 404, 410)[at % 3])
            case "range ignored":
                return replace(reply, ranges=False) if partial else reply
            case "range elsewhere":
                return replace(reply, span=(start // 2, start // 2 + stop - start)) if partial and start else reply
            case "no Content-Range":
                return replace(reply, headers={**reply.headers, "Content-Range": None}) if partial else reply
            case "Content-Range without sense":
                wrong = f"bytes {start}-{len(reply.body)}/{len(reply.body)}"
                return replace(reply, headers={**reply.headers, "Content-Range": wrong}) if partial else reply
            case "several ranges":
                kind = {"Content-Type": "multipart/byteranges; boundary=x", "Content-Range": None}
                return replace(reply, headers={**reply.headers, **kind}) if partial else reply
            case "bit flipped":
                if self._replaced or start == stop:
                    return reply
                bit = min(8 * at + at % 8, 8 * stop - 1)
                self.flipped.add(bit)
                return replace(reply, flip_bit=bit)
            case "other version":
                self._replaced = True
                return self._good(self.versions[1])
            case "no HTTP":
                return Reply(raw=b"\x00\xffSSH-2.0-OpenSSH_9.2\r\n" * 3, then="close")
            case "two lengths":
                lengths = [str(stop - start), str(stop - start + 1)]
                return replace(reply, headers={**reply.headers, "Content-Length": lengths})
            case "length too small":
                if partial or reply.framing != "length":
                    return reply
                self.lied_sizes.add(at)
                return replace(reply, headers={**reply.headers, "Content-Length": str(at)}, then="close")
            case "head too long":
                return replace(reply, headers={**reply.headers, "X-Long": "a" * (1 << 20)})
            case "redirected in a circle":
                return redirect(self._paths["circle"])
            case "redirected nowhere":
                return redirect(("file:///etc/passwd", "http://[", "")[at % 3])
            case "many long fields":
                return replace(reply, headers={**reply.headers, **_LONG_FIELDS})
            case "engine killed" | "descriptors run out":
                self.disturb(fault.kind)
                return replace(reply, pace=_THROTTLED)
        raise LookupError(f"no such fault: {fault.kind}")


def _asked(reply: Reply, request: Request) -> tuple[int, int, bool]:
    """The bytes that a right reply covers, and whether it is a 206."""
    made = answer(reply, request)
    head = made.head.partition(b"\r\n\r\n")[0]
    for line in head.split(b"\r\n"):
        if line.startswith(b"Content-Range: bytes ") and b"*" not in line:
            first, _, last = line.removeprefix(b"Content-Range: bytes ").partition(b"/")[0].partition(b"-")
            return int(first), int(last) + 1, True
    return 0, len(made.body), False


def _base64(digest: str) -> str:
    return base64.b64encode(bytes.fromhex(digest)).decode()
