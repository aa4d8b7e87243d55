"""What must be right before anything else of the command is imported: standard descriptors and signals.

Light, as `getm.client.process` is: both are imported before the first engine starts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading

# As in the package's __init__: `typing` is not needed here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_AGAIN_S = 0.05


class Stopped(KeyboardInterrupt):
    """A signal asks this process to end: KeyboardInterrupt for more signals than SIGINT."""

    def __init__(self, number: int) -> None:
        self.number = number


def occupy_standard_descriptors() -> None:
    """Give descriptors 0 to 2 to /dev/null where they are closed: a socket or a file that got one of these numbers
    would be taken for standard input or output by a child process, and be written to by whatever prints."""
    # The lowest free number is the next.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


@contextlib.contextmanager
def raise_on_signals(*, restore: bool) -> Iterator[None]:
    """Make SIGINT, SIGTERM and SIGHUP raise `Stopped`, unless they are ignored (by nohup, a shell's `&`) or handled.

    `restore`: set the handlers of before at the end. Else a signal ends the process then, which has nothing left to do:
    Python's own handler would print a traceback while the interpreter ends."""
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                before = signal.getsignal(number)
                if before in (signal.SIG_DFL, signal.default_int_handler):
                    stack.callback(signal.signal, number, before if restore else signal.SIG_DFL)
                    signal.signal(number, _on_signal)
        yield


def raise_again(stop: Stopped) -> None:
    """Raise `stop` once more, a moment later: it was raised in a finaliser, where Python discards what is raised."""
    signal.signal(stop.number, _on_signal)
    again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), stop.number))
    again.daemon = True
    again.start()


def _on_signal(number: int, frame: FrameType | None) -> None:
    # A second one ends the process at once, should the end take too long.
    signal.signal(number, signal.SIG_DFL)
    raise Stopped(number)
