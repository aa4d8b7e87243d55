"""The end of the interpreter, as getm hears of it: from the import of the package on, whatever is imported later.

What a program registers with `atexit` after `import getm` may therefore use it; what it registered before may not.
"""

from __future__ import annotations

import atexit

# As in the package's __init__: `typing` would cost more than all else here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

REFUSAL = "the interpreter is ending: nothing can be opened any more; do it earlier"

_begun = False
_calls: list[Callable[[], None]] = []


def begun() -> bool:
    """Whether it has begun: from here on nobody would end what is started."""
    return _begun


def at_end(call: Callable[[], None]) -> None:
    """Have it called when the end begins."""
    _calls.append(call)


@atexit.register
def _begin() -> None:
    global _begun
    _begun = True
    for call in _calls:
        call()
