"""Signal handlers that use getm at any moment, forks during the first import, threads that outlive the main one."""

from __future__ import annotations

import os
import signal
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path

import pytest

import getm
from getm.testing import FaultServer, Reply
from tests.integration.test_processes import run_python
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
Make = Callable[..., ServedObject]


def test_case_51_a_read_after_an_interrupted_one_gives_what_that_had_copied(fault_server: FaultServer) -> None:
    """A long read copies what has come out of the ring. It was lost to `readinto`, and a shorter `read` never ended."""
    body = os.urandom(MIB)
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=body, stall_at=MIB // 2, gate=gate))

    class Interrupted(Exception):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    def send_signal(fh: getm.Reader) -> None:
        while len(fh._access.chunks._copy) < MIB // 4:
            os.sched_yield()
        signal.pthread_kill(main_thread, signal.SIGALRM)

    main_thread = threading.get_ident()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with getm.Session(max_memory=MIB // 4) as session, session.urlopen(url) as fh:
            thread = threading.Thread(target=send_signal, args=(fh,))
            thread.start()
            with pytest.raises(Interrupted):
                fh.read()
            thread.join()
            buffer = bytearray(1000)
            assert (fh.read(5), fh.readinto(buffer), fh.read(100_000)) == (body[:5], 1000, body[1005:101_005])
            assert buffer == body[5:1005] and fh.tell() == 101_005
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("seed", range(1))
@pytest.mark.parametrize("what", ("close", "read", "close the session"))
@pytest.mark.parametrize("concurrency", (1, None))
def test_case_51_a_signal_handler_may_use_getm_at_any_moment(
    concurrency: int | None, what: str, seed: int, nginx: NginxServer, make_object: Make, tmp_path: Path
) -> None:
    """Of the same session, while it starts engines, makes rings, reads and closes. No moment hangs, and what was not
    closed is right."""
    served = make_object(3 * MIB)
    actions = {
        "close": "getm.close()",
        "read": f"assert len(getm.read(url, concurrency={concurrency})) == size",
        "close the session": "session.close()",
    }
    result = run_python(
        f"""
        import random, signal, sys
        import getm
        import getm.default_session, getm.aio, getm.batch, getm.engine.main

        url, size, chance = {nginx.url(served)!r}, {served.size_bytes}, random.Random({seed})
        signals, inside, wanted = 0, False, 12
        session = getm.Session()

        def handler(number, frame):
            global signals, inside
            signals += 1
            if inside:
                return
            inside = True
            try:
                {actions[what]}
            except getm.ReaderClosed:
                pass
            finally:
                inside = False
                if signals < wanted:
                    signal.setitimer(signal.ITIMER_REAL, chance.random() * 0.05 + 1e-4)

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 1e-3)
        while signals < wanted:
            session = getm.Session()
            for use in (getm.read, session.read):
                try:
                    assert len(use(url, concurrency={concurrency}, checksum="md5:{served.md5_hex}")) == size
                except getm.ReaderClosed:
                    assert "close" in {what!r}
            getm.download(url, {str(tmp_path / "outer")!r}) if {what!r} != "close" else None
            session.close()
            getm.close()
        print("done")
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("first", ("read", "Session", "download", "iter_content", "concurrency=None"))
def test_case_56_a_fork_while_another_thread_makes_the_first_call(
    first: str, nginx: NginxServer, make_object: Make, tmp_path: Path
) -> None:
    """The child has the locks of imports that nobody in it would release."""
    served = make_object(1000)
    calls = {
        "read": "getm.read(url)",
        "Session": "getm.Session().close()",
        "download": f"getm.download(url, {str(tmp_path / 'copy')!r} + str(os.getpid()))",
        "iter_content": "list(map(bytes, getm.iter_content(url)))",
        "concurrency=None": "getm.read(url, concurrency=None)",
    }
    result = run_python(
        f"""
        import faulthandler, os, threading, time
        import getm
        url = {nginx.url(served)!r}

        def use():
            {calls[first]}

        thread = threading.Thread(target=use)
        thread.start()
        children = []
        for _ in range(6):
            child = os.fork()
            if child == 0:
                # A child that hangs says where.
                faulthandler.dump_traceback_later(30, exit=True)
                use()
                assert len(getm.read(url)) == 1000
                getm.close()
                os._exit(0)
            children.append(child)
            time.sleep(0.02)
        thread.join()
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 6
        """
    )
    # Standard error may have a word of `logging`, which was imported while the fork waited, and whose lock the fork did
    # not take for it: Python prints that it could not be released, and goes on.
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("concurrency", (1, None))
@pytest.mark.parametrize("what", ("read", "iter_content", "download", "download_all", "aiter_content"))
def test_case_56_first_use_in_a_thread_that_outlives_the_main_one(
    what: str, concurrency: int | None, nginx: NginxServer, make_object: Make, tmp_path: Path
) -> None:
    served = make_object(20 * MIB)
    calls = {
        "read": f"len(getm.read(url, concurrency={concurrency}))",
        "iter_content": f"sum(len(part) for part in getm.iter_content(url, concurrency={concurrency}))",
        "download": f"getm.download(url, {str(tmp_path / 'copy')!r}, concurrency={concurrency}).size",
        "download_all": f"sum(r.size for r in getm.download_all([url], directory={str(tmp_path)!r}, "
        f"concurrency={concurrency}))",
        "aiter_content": "run()",
    }
    result = run_python(
        f"""
        import threading
        import getm
        url = {nginx.url(served)!r}

        def run():
            import asyncio
            async def consume():
                return sum([len(part) async for part in getm.aiter_content(url, concurrency={concurrency})])
            return asyncio.run(consume())

        def use():
            threading.main_thread().join()
            print({calls[what]}, flush=True)

        threading.Thread(target=use).start()
        """
    )
    if concurrency is None:
        # An engine in this process needs modules that can no longer be imported: that is said.
        assert "EngineDied: no engine thread could be started" in result.stderr
    else:
        assert (result.returncode, result.stdout, result.stderr) == (0, f"{served.size_bytes}\n", "")


@pytest.mark.parametrize(
    ("module", "function"), (("gevent.monkey", "is_module_patched"), ("eventlet.patcher", "is_monkey_patched"))
)
@pytest.mark.parametrize("concurrency", (1, None))
def test_case_59_a_patched_standard_library_is_refused(
    concurrency: int | None,
    module: str,
    function: str,
    nginx: NginxServer,
    make_object: Make,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """By their marks: sockets, select and threads of gevent are not those that waiting for an engine needs."""
    url = nginx.url(make_object(1000))
    patched = types.ModuleType(module)
    setattr(patched, function, lambda name: True)
    monkeypatch.setitem(sys.modules, module, patched)
    with getm.Session() as session:
        with pytest.raises(getm.InvalidInput, match="gevent"):
            session.read(url, concurrency=concurrency)
        with pytest.raises(getm.InvalidInput, match="gevent"):
            session.download(url, tmp_path / "copy", concurrency=concurrency)
        setattr(patched, function, lambda name: False)
        assert len(session.read(url, concurrency=concurrency)) == 1000
