"""Fixtures of all tests: real servers, objects to serve, a count of leaks after each test, a deadline for each test."""

from __future__ import annotations

import faulthandler
import gc
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import settings

import getm
from getm.testing import FaultServer
from tests.support import leaks, mounts
from tests.support.certificates import Authority
from tests.support.engines import await_left_engines
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject
from tests.support.sessions import KeptSession

# The fixture `fault_server`.
pytest_plugins = ["getm.testing.plugin"]

_DEADLINE_S = 60.0

# The same examples in every run, and no time limit on a single one: a busy machine is no failure. To look for new
# examples: pytest --hypothesis-profile=default.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")
_EXIT_DEADLINE_S = 30.0
# After a collection that takes longer, what it has found alive is not looked at again.
_SLOW_COLLECTION_S = 0.02

# Modules whose tests share what takes seconds to make: moto and what it is filled with, a BAM, the documentation site.
_TOGETHER = (
    "tests/integration/test_s3.py",
    "tests/integration/test_s3_names.py",
    "tests/integration/test_s3_listing.py",
    "tests/integration/test_destinations.py",
    "tests/integration/test_buckets.py",
    "tests/integration/test_run.py",
    "tests/integration/test_site.py",
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "deadline(seconds): fail the test, with all stacks, if it takes longer (60 s)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # pytest-timeout ends a test that hangs, and prints the stack of every thread. By signal, so that the run goes on
    # with the next test.
    for item in items:
        mark = item.get_closest_marker("deadline")
        seconds = float(mark.args[0]) if mark else _DEADLINE_S
        item.add_marker(pytest.mark.timeout(seconds, method="signal"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Which tests one worker runs in a row: the cases of one test, which use the same objects (slow ones: of a
    gigabyte), and the whole of a module whose server is dear to start."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class Scheduler(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            if "-line-" in nodeid:
                return nodeid.partition("-line-")[0]  # the examples of one page
            return module if module in _TOGETHER else nodeid.partition("[")[0]

    return Scheduler(config, log)


def pytest_unconfigure(config: pytest.Config) -> None:
    # A thread that a test left behind would keep the interpreter from ending, for ever and without a word. (A worker of
    # pytest-xdist waits for the others, and is ended by its controller.)
    if hasattr(config, "workerinput"):
        return
    faulthandler.dump_traceback_later(_EXIT_DEADLINE_S, exit=True, file=sys.__stderr__ or sys.stderr)


@pytest.fixture(scope="session", autouse=True)
def _process_wide_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the process opens once and keeps, opened before anything is counted; and a temporary folder of our own, so
    that other programs' files in the common one are not taken for leaks."""
    for number in (signal.SIGINT, signal.SIGHUP):
        # Ignored, as under nohup or behind a shell's "&", they would be ignored by every program that the tests start
        # and send them to. Of a handler, a new program inherits nothing.
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)
    mounts.enter()
    leaks.mark_environment()
    resource_tracker.ensure_running()
    # All test modules are imported: the collection after each test need not walk through them, and takes 1 ms, not 40.
    gc.collect()
    gc.freeze()
    uvloop.new_event_loop().close()  # libuv keeps one pipe for signals, whatever the number of loops
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("temporary")
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        # Not the developer's own configuration.
        patch.setenv("XDG_CONFIG_HOME", str(folder))
        patch.delenv("GETM_CONFIG", raising=False)
        # Of this run alone: what it learns of hosts, whose ports are used again.
        patch.setenv("GETM_HOST_TABLE", str(tmp_path_factory.mktemp("hosts") / "table"))
        yield


_kept = KeptSession()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        # What a test that failed has done to the session is not known.
        _kept.spoilt = True
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, bool, bool]:
    _kept.goes_on = (
        nextitem is not None
        and nextitem.path == item.path
        and "shared_session" in getattr(nextitem, "fixturenames", ())
    )
    return (yield)


@pytest.fixture(autouse=True)
def _no_leaks(_process_wide_state: None) -> Iterator[None]:
    _kept.begin(leaks.snapshot())
    yield
    getm.close()
    began_s = time.monotonic()
    gc.collect()
    if time.monotonic() - began_s > _SLOW_COLLECTION_S:
        # Libraries that tests have imported since: thousands of tests would take half a second each for them.
        gc.freeze()
    await_left_engines()
    if found := _kept.end():
        pytest.fail(found, pytrace=False)


@pytest.fixture
def shared_session() -> Callable[..., getm.Session]:
    """`shared_session(**settings)`: a session of these settings, whose engines serve one test of a module after the
    other. For tests that neither end it nor count its processes, connections or memory."""
    return _kept.open


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NginxServer]:
    """A real nginx over HTTP and HTTPS; its locations stand in tests/support/nginx_config.py."""
    with NginxServer(tmp_path_factory.mktemp("nginx")) as server:
        yield server


@pytest.fixture(scope="session")
def make_object(nginx: NginxServer) -> Callable[..., ServedObject]:
    """`make_object(size_bytes, seed=0)`: random bytes that nginx serves, made once a run."""
    return nginx.objects.make


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The certificate authority of the fault servers (nginx has one of its own: `nginx.ca_path`)."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def tls_fault_server(authority: Authority) -> Iterator[FaultServer]:
    """A server that misbehaves by script, over HTTPS, with a good certificate of `authority`."""
    with FaultServer(tls=authority.issue().server_context()) as server:
        yield server


@pytest.fixture
def ca_path(authority: Authority) -> Path:
    """What a client must trust to talk to `tls_fault_server`."""
    return authority.ca_path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs more rights than this machine gives")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
