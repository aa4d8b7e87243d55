"""Programs that use getm, in interpreters of their own: interrupted, ending, nested; and what none of them ever shows.

Rows 53 to 56 of the faults. Threads, forks, daemonic workers and `python -` (row 55) stand in test_processes.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import getm
from getm.testing import FaultServer, Reply, redirect
from getm.testing import failure as error_page
from tests.support.command import GETM, names
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
Make = Callable[..., ServedObject]


def python(code: str) -> list[str]:
    return [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]


def ended(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """What it has printed, once it has ended. One that does not is killed: leaving its context would wait for it."""
    try:
        return process.communicate(timeout=20)
    except BaseException:
        process.kill()
        raise


# Row 53: Ctrl-C ------------------------------------------------------------------------------------------------------

USES = {
    "read": "getm.read(url, concurrency=n)",
    "reader": "io.BufferedReader(getm.urlopen(url, concurrency=n)).readinto(bytearray(2 * size))",
    "iterator": "for part in getm.iter_content(url, concurrency=n): pass",
    "unordered": "for offset, part in getm.iter_content_unordered(url, concurrency=n): pass",
    "download": "getm.download(url, 'out', concurrency=n)",
    "adownload": "asyncio.run(getm.adownload(url, 'out', concurrency=n))",
    "async": "asyncio.run(consume())",
}


@pytest.mark.parametrize(
    ("use", "moment", "concurrency"),
    [
        *(("read", moment, concurrency) for moment in ("head", "body") for concurrency in (1, 3, None)),
        *((use, "body", concurrency) for use in ("download", "async") for concurrency in (1, 3, None)),
        *(("async", "head", concurrency) for concurrency in (1, None)),
        *((use, "body", 1) for use in ("reader", "iterator", "unordered", "adownload")),
    ],
)
def test_row_53_ctrl_c_is_a_keyboard_interrupt_and_nothing_stays(
    use: str, moment: str, concurrency: int | None, fault_server: FaultServer, tmp_path: Path
) -> None:
    """It goes to the whole group of processes, engines included, as a terminal sends it."""
    gate = fault_server.gate()
    body = bytes(3 * MIB)
    held = Reply(body=body, hold=gate) if moment == "head" else Reply(body=body, stall_at=2 * MIB, gate=gate)
    url = fault_server.serve("/x", held)
    program = f"""
        import asyncio, io, getm
        url, n, size = {url!r}, {concurrency}, {len(body)}
        async def consume():
            async for part in getm.aiter_content(url, concurrency=n):
                pass
        while True:
            {USES[use]}
    """
    with subprocess.Popen(
        python(program), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        gate.wait_reached()
        engines = psutil.Process(process.pid).children(recursive=True)
        assert bool(engines) == (concurrency is not None)
        os.killpg(process.pid, signal.SIGINT)
        discarded = False
        try:
            stdout, stderr = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            # Python prints a Ctrl-C that comes while a view dies, and goes on; and it waits on where one comes between
            # its last look for signals and the system call that waits.
            discarded = True
            os.killpg(process.pid, signal.SIGINT)
            stdout, stderr = ended(process)
    gate.open()
    assert (process.returncode, stdout) == (-signal.SIGINT, b"")
    assert stderr.decode().splitlines()[-1] == "KeyboardInterrupt"
    assert (b"Exception ignored" not in stderr or discarded) and b"Warning" not in stderr
    assert not any(engine.is_running() for engine in engines)
    # A download can be taken up again; nothing else leaves anything.
    left = [name for name in names(tmp_path) if not re.fullmatch(r"\.out\..*getm-(part|journal)", name)]
    assert left == [] and (use in ("download", "adownload") or names(tmp_path) == [])


# Python prints the Ctrl-C that comes while a view dies, and goes on: that is no concern here.
INTERRUPTED = """
import gc, hashlib, os, random, signal, sys, threading, getm
url, md5 = sys.argv[1:]

def use(number):
    n = (1, 3, None)[number // 2 % 3]
    if number % 2:
        data = getm.read(url, concurrency=n)
    else:
        data = b"".join(map(bytes, getm.iter_content(url, concurrency=n)))
    assert hashlib.md5(data).hexdigest() == md5, "wrong bytes"

def open_now():
    for number in range(6):
        use(number)
    getm.close()
    gc.collect()
    return len(os.listdir("/proc/self/fd")), threading.active_count()

before = open_now()
signal.signal(signal.SIGALRM, lambda number, frame: signal.raise_signal(signal.SIGINT))
chance = random.Random(53)
interrupted = 0
for number in range(100):
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.02))
        use(number)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupted += 1
    except getm.errors.ReaderClosed:
        # Python let the Ctrl-C go under that came within a finaliser; what it had interrupted was closed.
        interrupted += 1
signal.setitimer(signal.ITIMER_REAL, 0)
after = open_now()
# A descriptor is a plain number for one step of the interpreter: hardly ever does a Ctrl-C come just there.
print(interrupted > 20, after[0] <= before[0] + 5, after[1] == before[1])
"""


def test_row_53_after_ctrl_c_at_any_moment_the_next_read_is_right(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(3 * MIB + 17)
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, nginx.url(served), served.md5_hex], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "True True True\n"), done.stderr


# Row 54: the end of the interpreter ----------------------------------------------------------------------------------

# Each prints what became of a read: its length, or getm's error.
LAST_WORDS = {
    "atexit, registered before getm": "import atexit; atexit.register(lambda: use()); import getm",
    "atexit, registered after getm": "import atexit, getm; atexit.register(lambda: use())",
    "the finaliser of a global": """
        import getm
        class Late:
            def __del__(self):
                use()
        late = Late()
    """,
    "the finaliser of a cycle": """
        import getm
        class Late:
            def __del__(self):
                use()
        late = Late()
        late.itself = late
    """,
}


@pytest.mark.parametrize("concurrency", (1, None))
@pytest.mark.parametrize("used", (False, True), ids=("first use", "used before"))
@pytest.mark.parametrize("when", LAST_WORDS)
def test_row_54_use_while_the_interpreter_ends(
    when: str, used: bool, concurrency: int | None, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(MIB + 1)
    program = "\n".join(
        [
            textwrap.dedent(LAST_WORDS[when]),
            textwrap.dedent(
                f"""
                def use(url={nginx.url(served)!r}, getm=getm, print=print, Error=getm.errors.GetmError):
                    try:
                        print(len(getm.read(url, concurrency={concurrency})), flush=True)
                    except Error as error:
                        print(type(error).__name__, flush=True)
                """
            ),
            "use()" if used else "",
        ]
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    words = done.stdout.split()
    assert len(words) == 1 + used
    assert words[:-1] == [str(served.size_bytes)] * used
    if when == "atexit, registered after getm" and (used or concurrency is not None):
        # Then it may still be used, whatever of getm was used before.
        assert words[-1] == str(served.size_bytes)
    elif when == "atexit, registered after getm":
        # What an engine in this process imports cannot be imported any more.
        assert words[-1] == "EngineDied"
    else:
        assert words[-1] == "ReaderClosed"


# Row 55: a loop within a loop ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", (1, 3, None))
def test_row_55_a_loop_nested_in_a_running_one(concurrency: int | None, nginx: NginxServer, make_object: Make) -> None:
    """As notebooks do it by patching asyncio: another loop runs to its end inside a coroutine, in the same session."""
    outer_object, inner_object = make_object(5 * MIB + 1), make_object(3 * MIB + 1)

    async def collect(session: getm.Session, served: ServedObject) -> bytes:
        return b"".join(
            [bytes(part) async for part in session.aiter_content(nginx.url(served), concurrency=concurrency)]
        )

    async def outer(session: getm.Session) -> tuple[bytes, bytes, bytes]:
        parts, nested = [], b""
        async for part in session.aiter_content(nginx.url(outer_object), concurrency=concurrency):
            parts.append(bytes(part))
            if not nested:
                running = asyncio.get_running_loop()
                asyncio._set_running_loop(None)
                try:
                    nested = asyncio.run(collect(session, inner_object))
                finally:
                    asyncio._set_running_loop(running)
        return b"".join(parts), nested, await collect(session, inner_object)

    with getm.Session() as session:
        assert asyncio.run(outer(session)) == (outer_object.read(), inner_object.read(), inner_object.read())


# Row 56: secrets -----------------------------------------------------------------------------------------------------

SECRET = "Hush-4f1d7c9a5e"

TALKATIVE = """
import asyncio, base64, contextlib, logging, sys, traceback, warnings
import getm

logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(name)s %(message)s %(args)s")
logging.getLogger().addHandler(logging.FileHandler("log.txt"))
asyncio.get_event_loop_policy()
headers = {"Authorization": f"Bearer {secret}", "Cookie": f"session={secret}", "X-Api-Key": secret}

async def adownload(session, url):
    await session.adownload(url, concurrency=2)

def attempts(session, url):
    for concurrency in (1, 2, None):
        yield lambda: session.read(url, concurrency=concurrency)
        yield lambda: list(map(bytes, session.iter_content(url, concurrency=concurrency)))
        yield lambda: session.download(url, concurrency=concurrency)
    yield lambda: asyncio.run(adownload(session, url), debug=True)

failed = 0
with getm.Session(headers=headers, timeout=0.3, retries=getm.Retries(attempts=1, base_s=0.01)) as session:
    for url in urls:
        for attempt in attempts(session, url):
            try:
                attempt()
            except Exception as error:
                failed += 1
                traceback.print_exception(error)
                print(repr(error), str(error), error.__dict__, getattr(error, "fields", dict)())
    print("failed", failed)
    fh = session.urlopen(held, concurrency=2)
    print(fh.read(10).tobytes(), fh.name, fh, session)
    print("look", flush=True)
    sys.stdin.read()
"""


def places_of(secret: str, folder: Path, pids: list[int]) -> list[str]:
    """Where the secret can be read by others: what processes show of themselves; names and contents of files."""
    found = []
    for pid in pids:
        for name in ("cmdline", "environ", "comm", "status"):
            if secret.encode() in Path(f"/proc/{pid}/{name}").read_bytes():
                found.append(f"{name} of {pid}")
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            # It may have been closed since it was listed.
            with contextlib.suppress(FileNotFoundError):
                if secret in str(descriptor.readlink()):
                    found.append(f"descriptor {descriptor.name} of {pid}")
    for root in (folder, Path("/dev/shm")):
        for path in root.rglob("*"):
            if secret in str(path):
                found.append(f"name {path}")
            elif path.is_file() and root == folder and secret.encode() in path.read_bytes():
                found.append(f"content of {path}")
    return found


def serve_secretly(server: FaultServer, authority_url: str) -> list[str]:
    """URLs with the secret in query and user information: each goes well, or wrong in another way."""
    body = bytes(range(256)) * 8 * 1024
    token = f"?X-Amz-Signature={SECRET}&Expires=1"
    never = server.gate()
    replies: dict[str, tuple[Reply, ...]] = {
        "good": (Reply(body=body),),
        "named": (Reply(body=body, headers={"Content-Disposition": f'attachment; filename="{SECRET[:4]}.bin"'}),),
        "declared": (Reply(body=body, headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}),),
        "malformed": (Reply(body=body, headers={"Repr-Digest": "sha-256=:nonsense:"}),),
        "refused": (error_page(403),),
        "busy": (error_page(503), Reply(body=body)),
        "always-busy": (error_page(503),),
        "cut": (Reply(body=body, cut_at=MIB), Reply(body=body)),
        "always-cut": (Reply(body=body, cut_at=10, then="reset"),),
        "stalled": (Reply(body=body, stall_at=MIB, gate=never), Reply(body=body)),
        "changed": (Reply(body=body, cut_at=MIB), Reply(body=body, etag='"v2"')),
        "away": (redirect(f"/good{token}"),),
        "away-to-nothing": (redirect(f"http://user:{SECRET}@127.0.0.1:1/x{token}"),),
        "away-to-file": (redirect(f"file:///etc/passwd{token}"),),
        "in-circles": (redirect(f"/in-circles{token}"),),
        "bad-head": (Reply(raw=b"nonsense\r\n\r\n"),),
    }
    served = [server.serve(f"/{name}", *steps) for name, steps in replies.items()]
    plain = [f"{url}{token}" for url in served]
    return [*plain, plain[0].replace("//", f"//user:{SECRET}@"), f"http://127.0.0.1:1/x{token}", authority_url + token]


def test_row_56_no_secret_is_shown_anywhere_by_a_program(
    fault_server: FaultServer, tls_fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    urls = serve_secretly(fault_server, tls_fault_server.serve("/untrusted", Reply(body=b"x")))
    gate = fault_server.gate()
    held = fault_server.serve("/held", Reply(body=bytes(3 * MIB), stall_at=2 * MIB, gate=gate))
    # The program gets its secrets on standard input: what shows them then is getm.
    prologue = "import json, sys; secret, urls, held = json.loads(sys.stdin.readline())\n"
    with (
        (tmp_path / "stderr.txt").open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-X", "dev", "-c", prologue + TALKATIVE],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps([SECRET, urls, f"{held}?sig={SECRET}"]).encode() + b"\n")
        process.stdin.flush()
        printed = b"".join(iter(process.stdout.readline, b"look\n"))
        everyone = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        assert len(everyone) > 1
        (tmp_path / "stdout.txt").write_bytes(printed)
        assert places_of(SECRET, tmp_path, everyone) == []
        rest, _ = process.communicate()
    gate.open()
    assert process.returncode == 0 and SECRET.encode() not in rest
    # It was sent, and spoken of: nothing was looked for in vain.
    assert any(request.header("X-Api-Key") == SECRET for request in fault_server.requests)
    assert any(SECRET.encode() in request.target for request in fault_server.requests)
    assert b"/always-busy" in printed and b"403" in printed
    assert int(re.findall(rb"failed (\d+)", printed)[0]) > 50


@pytest.mark.parametrize("concurrency", ("1", "3"))
def test_row_56_no_secret_is_shown_anywhere_by_the_command(
    concurrency: str, fault_server: FaultServer, tls_fault_server: FaultServer, tmp_path: Path
) -> None:
    """At its most talkative, with a receipt and partial files. The list comes on standard input: a URL among the
    arguments is shown by the system, and only there."""
    urls = serve_secretly(fault_server, tls_fault_server.serve("/untrusted", Reply(body=b"x")))
    gate = fault_server.gate()
    held = fault_server.serve("/held", Reply(body=bytes(3 * MIB), stall_at=2 * MIB, gate=gate)) + f"?sig={SECRET}"
    listed = [
        {"url": url, "filepath": f"{number}.bin", "headers": {"X-Api-Key": SECRET}}
        for number, url in enumerate([*urls, held])
    ]
    options = ["-vv", "-c", "-x", concurrency, "--receipt", "receipt.jsonl", "--progress=plain"]
    with (
        (tmp_path / "stdout.txt").open("wb") as stdout,
        (tmp_path / "stderr.txt").open("wb") as stderr,
        subprocess.Popen(
            [*GETM, *options, "--timeout", "0.5", "--retries", "1", "-i", "-"],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
        ) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(json.dumps(listed).encode())
        process.stdin.close()
        gate.wait_reached()
        # It gives up the silent connections soon; what it shows is looked at before that.
        process.send_signal(signal.SIGSTOP)
        everyone = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        assert len(everyone) > 1
        assert places_of(SECRET, tmp_path, everyone) == []
        process.send_signal(signal.SIGCONT)
        process.wait()
    gate.open()
    assert process.returncode == 1
    assert places_of(SECRET, tmp_path, []) == []
    # There were words in plenty, and files of all kinds.
    printed = (tmp_path / "stdout.txt").read_bytes() + (tmp_path / "stderr.txt").read_bytes()
    assert b"/always-busy" in printed and b"403" in printed and b"retry" in printed
    assert (tmp_path / "receipt.jsonl").stat().st_size
    assert any(name.endswith("getm-journal") for name in names(tmp_path))
    assert any(request.header("X-Api-Key") == SECRET for request in fault_server.requests)
