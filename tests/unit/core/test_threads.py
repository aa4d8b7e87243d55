"""Locks and forks."""

from __future__ import annotations

import os
import signal

from getm.core.threads import ForkSafeLock


def test_a_lock_that_is_held_is_free_in_a_forked_child() -> None:
    lock = ForkSafeLock()
    with lock:
        child = os.fork()
        if not child:
            # It must not outlive the test.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)
            with lock:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
