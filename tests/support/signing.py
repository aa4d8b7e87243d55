"""An object whose URLs are signed, and expire: each is good for a number of requests, and is refused after that."""

from __future__ import annotations

import threading
from collections.abc import Callable

from getm.testing import FaultServer, Reply, Request, failure


class SignedObject:
    """Signs URLs of an object of `server`, and serves it to requests whose signature has not expired.

    Each signature is good for `uses` requests; the answers to the others are `refusal`. `reply(request)`: the answer
    to a good one.
    """

    def __init__(
        self,
        server: FaultServer,
        reply: Callable[[Request], Reply],
        *,
        uses: int,
        refusal: Reply | None = None,
        path: str = "/signed",
    ) -> None:
        self.url = server.serve(path, self._answer)
        # How often each signature was used, in the order in which they were issued.
        self.used: list[int] = []
        self.refused = 0
        # How many requests had an Authorization field.
        self.tokens = 0
        self._reply = reply
        self._uses = uses
        self._refusal = failure(403) if refusal is None else refusal
        self._lock = threading.Lock()

    def sign(self) -> str:
        """A new URL: a provider."""
        with self._lock:
            self.used.append(0)
            return f"{self.url}?signature=SECRET-{len(self.used) - 1}"

    async def asign(self) -> str:
        """`sign` as an asynchronous provider."""
        return self.sign()

    @property
    def one_for_each_expiry(self) -> bool:
        """Whether no signature was issued before the one before it was used up."""
        return all(count == self._uses for count in self.used[:-1])

    def _answer(self, request: Request) -> Reply:
        query = request.target.partition(b"?")[2].decode()
        number = int(query.rpartition("-")[2]) if query else -1
        with self._lock:
            self.tokens += request.header("Authorization") is not None
            if number < 0 or self.used[number] >= self._uses:
                self.refused += 1
                return self._refusal
            self.used[number] += 1
        return self._reply(request)


def cut(body: bytes, piece_bytes: int) -> Callable[[Request], Reply]:
    """Answers with at most so many bytes of `body` each: the connection breaks after them."""
    return lambda request: Reply(body=body, cut_at=piece_bytes, then="close")
