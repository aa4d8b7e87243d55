"""The end of the interpreter. It is registered when the package is imported, whatever is imported later: functions that
a program registers with `atexit` after `import getm` may use getm; those that it registered before may not.
"""

from __future__ import annotations

import atexit

# As in the package's __init__: importing `typing` would cost more than everything else here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

REFUSAL = "the interpreter is shutting down: nothing can be opened any more; do it earlier"

_begun = False
_calls: list[Callable[[], None]] = []


def begun() -> bool:
    """Whether it has begun: nobody would end what is started from then on."""
    return _begun


def at_end(call: Callable[[], None]) -> None:
    """Register a function to call when the end begins."""
    _calls.append(call)


@atexit.register
def _begin() -> None:
    global _begun
    _begun = True
    for call in _calls:
        call()
