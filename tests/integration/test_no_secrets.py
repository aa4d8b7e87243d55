"""Whole runs with secrets of every kind that can be recognised: none of them shows anywhere but where it must go."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import pickle
import subprocess
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import getm
from getm import errors
from getm.testing import FaultServer, Reply, Request, failure, redirect
from tests.support.command import GETM, refused
from tests.support.proxies import LOGIN, tinyproxy

BODY = bytes(range(256)) * 3000
MIB = 1024 * 1024

SECRETS = {
    kind: f"Zq9-{kind}-0wned"
    for kind in (
        *("bearer", "header", "netrc", "cookie", "signature", "userinfo", "redirect", "provider", "fragment"),
        *("list-header", "resource", "key", "advice", "mirror"),
    )
} | {"proxy": LOGIN[1]}
S = SECRETS

# As they are, as a URL has them, and within Basic credentials.
FORMS = {form for secret in S.values() for form in (secret, quote(secret, safe=""))} | {
    base64.b64encode(f"{user}:{S[kind]}".encode()).decode()[4:-4]
    for user, kind in (("someone", "netrc"), ("someone", "userinfo"), (LOGIN[0], "proxy"))
}


def assert_clean(what: str, data: bytes | str) -> None:
    text = data.decode("latin-1") if isinstance(data, bytes) else data
    found = sorted(form for form in FORMS if form in text)
    assert not found, f"{what} has {found}: {text[max(0, text.index(found[0]) - 300) :][:600]}"


def assert_clean_folders(*folders: Path, but: Iterable[Path] = ()) -> None:
    """No name and no content of a file has one, but in those that were made with them."""
    given = {path.resolve() for path in but}
    for folder in folders:
        for path in folder.rglob("*"):
            if path.resolve() in given:
                continue
            assert_clean("the name of a file", os.fsencode(path.relative_to(folder)))
            if path.is_file():
                assert_clean(f"the file {path.name}", path.read_bytes())


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        serve(server)
        yield server


def serve(server: FaultServer) -> None:
    """Objects at which something fails in each of many ways, mostly with the secrets in what the server says."""

    def echo(request: Request) -> Reply:
        """Everything that the request had, in the content and in the reason."""
        said = f"{request.target.decode()} {dict(request.headers)}"
        page = f"<Error><Code>SignatureDoesNotMatch</Code><Message>{said}</Message></Error>".encode()
        headers = {"Content-Type": "application/xml"}
        return Reply(status=403, body=page, reason=f"Forbidden for {said}", headers=headers, etag=None)

    away = server.url(f"/stored?X-Amz-Signature={S['redirect']}", "localhost")
    whole = Reply(body=BODY)
    for path, *steps in (
        ("/ok", whole),
        ("/stored", whole),
        ("/retried", failure(503, retry_after="0"), whole),
        ("/cut", Reply(body=BODY, cut_at=100_000, then="reset"), whole),
        ("/left", Reply(body=BODY, cut_at=400_000, then="close"), failure(500)),
        ("/away", redirect(away)),
        ("/echo", echo),
        ("/gone", failure(404)),
        ("/silent", Reply(raw=b"", then="close")),
        ("/garbage", Reply(raw=b"HTTP/1.1 none\r\n\r\n", then="close")),
        ("/loop", redirect(f"/loop?token={S['redirect']}")),
        ("/ftp", redirect(f"ftp://someone:{S['redirect']}@h.test/x?sig={S['redirect']}")),
        ("/nowhere", redirect(f"http://someone:{S['redirect']}@127.0.0.1:9/x?sig={S['redirect']}")),
        ("/expired", redirect(f"/echo?X-Amz-Signature={S['redirect']}&X-Amz-Date=20200101T000000Z")),
    ):
        server.serve(str(path), *steps)


def urls(server: FaultServer) -> list[str]:
    """Each path, with a signature, and a login, in the URL."""
    signed = f"?X-Amz-Signature={S['signature']}&sig={S['signature']}#{S['fragment']}"
    paths = [*server._scripts, "/nothing"]
    return [server.url(path) + signed for path in paths] + [
        server.url("/ok").replace("//", f"//someone:{S['userinfo']}@"),
        f"http://someone:{S['userinfo']}@127.0.0.1:9/x{signed}",
    ]


@pytest.fixture
def given(server: FaultServer, tmp_path: Path) -> dict[str, Path]:
    """Files with secrets."""
    folder = tmp_path / "given"
    folder.mkdir()
    rows: list[dict[str, Any]] = []
    for number, url in enumerate(urls(server)):
        mirrors = [server.url(f"/gone?sig={S['mirror']}")] if number % 2 else []
        headers = {"X-Secret-Of-List": S["list-header"]} if number % 3 else {}
        rows.append({"url": url, "filepath": f"{number}", "mirrors": mirrors, "headers": headers})
    rows.append({"url": server.url(f"/ok?sig={S['signature']}"), "filepath": "wrong", "checksum": f"md5:{'00' * 16}"})
    rows.append({"url": server.url(f"/ok?sig={S['signature']}"), "filepath": "long", "size": 1})
    texts = {
        "list": json.dumps(rows),
        "headers": f"X-Secret: {S['header']}\n",
        "token": f"{S['bearer']}\n",
        "netrc": f"machine localhost login someone password {S['netrc']}\n",
        "cookies": f"# Netscape HTTP Cookie File\nlocalhost\tFALSE\t/\tFALSE\t0\tid\t{S['cookie']}\n"
        f"127.0.0.1\tFALSE\t/\tFALSE\t0\tid\t{S['cookie']}\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    return {name: folder / name for name in texts}


# The command ----------------------------------------------------------------------------------------------------------

# What --on-complete runs: it writes down what it gets, and what all that getm started have got.
_LOOK = """#!/bin/sh
{{ echo "$@"; env; for process in /proc/[0-9]*; do
    if grep -qs "^PPid:.$PPID$" $process/status; then tr '\\0' '\\n' < $process/cmdline; cat $process/environ; fi
done; tr '\\0' '\\n' < /proc/$PPID/cmdline; }} >> {seen} 2>/dev/null
"""


def run(
    folder: Path, *arguments: object, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    homes = {name: str(folder / "home") for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "TMPDIR")}
    (folder / "home").mkdir(exist_ok=True, mode=0o700)
    environment = {**os.environ, **homes, **(variables or {})}
    done = subprocess.run(
        [*GETM, *map(str, arguments)], cwd=folder, capture_output=True, env=environment, stdin=subprocess.DEVNULL
    )
    assert b"Traceback" not in done.stderr
    assert_clean("standard output", done.stdout)
    assert_clean("standard error", done.stderr)
    return done


def test_a_run_of_the_command(server: FaultServer, given: dict[str, Path], tmp_path: Path) -> None:
    seen, look = tmp_path / "seen", tmp_path / "look"
    look.write_text(_LOOK.format(seen=seen))
    look.chmod(0o755)
    options: list[object] = [
        *("-m", given["list"], "-d", "out", "-c", "-j", 4, "--receipt", "receipt", "--retries", 1),
        *("-H", f"@{given['headers']}", "--bearer", f"@{given['token']}", "--netrc-file", given["netrc"]),
        *("--load-cookies", given["cookies"], "--proxy=", "--timeout", 5),
    ]
    shown = ["-vv", "--json", "--explain", "--progress=json"]
    done = run(tmp_path, *options, *shown, "--on-complete", look)
    assert done.returncode and b'"status_code": 403' in done.stderr
    # Of each file that came, and of the engine beside it.
    assert seen.read_text().count("GETM_PATH=") >= 6
    assert "getm.engine.main" in seen.read_text() or not Path("/proc/self").exists()
    # They were sent, and so could have been shown.
    sent = " ".join(str(request.headers) for request in server.requests)
    assert all(S[kind] in sent for kind in ("bearer", "header", "list-header", "cookie"))
    # Once more, with what is there; then all of it in the other forms.
    for more in (["--existing=verify", "-v"], ["--existing=update", "--progress=bar"], ["--dry-run", "--json-errors"]):
        run(tmp_path, *options, *more)
    for other in (["verify", "--receipt", "receipt"], ["report", "receipt", "-o", "page.html"]):
        run(tmp_path, *other)
    (tmp_path / "out" / "0").unlink()
    run(tmp_path, "verify", "--receipt", "receipt", "--repair", "--retries=0", "-H", f"@{given['headers']}", "--proxy=")
    run(tmp_path, "ls", server.url(f"/ok/?sig={S['signature']}"), "-H", f"@{given['headers']}", "--proxy=")
    assert_clean_folders(tmp_path, but=given.values())


def test_arguments_that_are_wrong(given: dict[str, Path], tmp_path: Path) -> None:
    """What is refused before any request."""
    signed = f"?sig={S['signature']}"
    for arguments in (
        [f"htps://h.test/{signed}"],
        [f"https://someone:{S['userinfo']}@h.test:port/{signed}"],
        [f"ftp://someone:{S['userinfo']}@h.test/{signed}"],
        ["https://h.test/", "-H", f"no header {S['header']}".replace(":", "")],
        ["https://h.test/", "-H", f"Bad Name: {S['header']}"],
        ["https://h.test/", "--bearer", f"two words {S['bearer']}"],
        ["https://h.test/", "--bearer", f"http://h={S['bearer']}"],
        ["https://h.test/", "--proxy", f"gopher://someone:{LOGIN[1]}@h.test/"],
        ["https://h.test/", "--proxy", f"http://someone:{LOGIN[1]}@h.test:port/"],
        ["https://h.test/", "--resolve", f"https://someone:{S['userinfo']}@h.test"],
        ["https://h.test/", "--no-such-option", f"https://h.test/{signed}"],
        [f"https://h.test/{signed}", f"https://h.test/{signed}", "x"],
        ["https://h.test/", "--netrc-file", given["token"]],
        ["https://h.test/", "--load-cookies", given["token"]],
        ["https://h.test/", "--cert", given["token"], "--key-password-file", given["token"]],
        ["-m", given["headers"]],
        ["-m", given["token"]],
        ["verify", f"https://h.test/{signed}", "md5:00"],
    ):
        done = refused(*arguments, cwd=tmp_path)
        assert_clean("what is said", done.stdout + done.stderr)
        assert done.returncode == 2, arguments


def test_through_a_proxy(server: FaultServer, tmp_path: Path) -> None:
    (tmp_path / "proxy").mkdir()
    with tinyproxy(tmp_path / "proxy", login=True) as port:
        config = tmp_path / "config.toml"
        right, wrong = ":".join(LOGIN), f"other:{LOGIN[1]}"
        for login, path, statuses in ((right, "/ok", {0}), (wrong, "/ok", {4, 8}), (right, "/gone", {8})):
            config.write_text(f'proxy = "http://{login}@127.0.0.1:{port}"\nretries = 0\n')
            config.chmod(0o600)
            done = run(tmp_path, server.url(path), "out", "-vv", "--json", "--config", config)
            assert done.returncode in statuses
    done = run(tmp_path, server.url("/ok"), "out", "-vv", "--config", config, "--json-errors")
    assert done.returncode == 4
    assert_clean_folders(tmp_path, but=[config, tmp_path / "proxy" / "tinyproxy.conf"])


def test_a_url_command(server: FaultServer, tmp_path: Path) -> None:
    command = tmp_path / "find"
    for code in (
        f"echo '{server.url('/ok')}?sig={S['provider']}'",
        f"""echo '{{"url": "{server.url("/echo")}?sig={S["provider"]}", "headers": {{"X-S": "{S["resource"]}"}}}}'""",
        f"echo 'nothing {S['provider']}'; echo '{S['provider']}'",
        f"echo '{S['provider']}'",
        f"""echo '{{"url": "{server.url("/ok")}", "{S["provider"]}": 1}}'""" if False else "exit 3",
        f"echo 'https://h.test/?sig={S['provider']} was refused' >&2; exit 1",
    ):
        command.write_text(f"#!/bin/sh\n{code}\n")
        command.chmod(0o755)
        run(
            tmp_path,
            f"https://h.test/x?sig={S['signature']}",
            "out",
            "-vv",
            "--json",
            "--url-command",
            command,
            "--proxy=",
        )
    assert_clean_folders(tmp_path, but=[command])


# Python ---------------------------------------------------------------------------------------------------------------


def texts_of(value: object) -> Iterator[str]:
    """What a program may show of a value."""
    yield str(value)
    yield repr(value)
    if isinstance(value, BaseException):
        yield "".join(traceback.format_exception(value, limit=0))
        if isinstance(value, errors.GetmError):
            yield json.dumps(value.to_json())
        with contextlib.suppress(TypeError, pickle.PicklingError, AttributeError):
            yield pickle.dumps(value).decode("latin-1")
        for cause in (value.__cause__, value.__context__):
            if cause is not None:
                yield from texts_of(cause)


@pytest.mark.parametrize("concurrency", [3, None])
def test_a_run_of_python(
    concurrency: int | None,
    server: FaultServer,
    given: dict[str, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Errors, results, events, and what is logged."""
    caplog.set_level(logging.DEBUG)
    shown: list[object] = []
    settings: dict[str, Any] = {
        "headers": {"X-Secret": S["header"]},
        "auth": {"": S["bearer"], "localhost": ("someone", S["netrc"])},
        "cookies": given["cookies"],
        "netrc": given["netrc"],
        "retries": getm.Retries(1, base_s=0.001, cap_s=0.01),
        "proxy": None,
        "timeout": 5,
    }
    own = {"X-Own": S["resource"]}
    with getm.Session(**settings) as session:
        shown.append(session)
        calls: list[Callable[[str], object]] = [
            lambda url: session.read(url, concurrency=concurrency, headers=own),
            lambda url: session.info(url, headers=own),
            lambda url: session.read(lambda: getm.Resource(url, headers=own), concurrency=concurrency),
            lambda url: session.download(url, f"{tmp_path}/out", receipt=tmp_path / "receipt"),
        ]
        for url in urls(server):
            shown += [getm.Entry(url, "x", headers=own), getm.Resource(url, headers=own)]
            for call in calls:
                try:
                    found = call(url)
                    # What a caller gets as bytes, and the final URL, may have anything.
                    shown += [found] if isinstance(found, getm.DownloadResult) else []
                except errors.GetmError as error:
                    shown.append(error)
        for row in session.download_all(
            getm.read_list(given["list"]), directory=tmp_path / "all", continue_after_error=True, on_event=shown.append
        ):
            shown.append(row)
        with session.urlopen(urls(server)[0]) as fh:
            shown += [fh, fh.name, fh.checksum, fh.stats]
    for value in shown:
        for text in texts_of(value):
            assert_clean(f"a {type(value).__name__}", text)
    assert len(caplog.records) > 20
    for record in caplog.records:
        assert_clean(f"the log ({record.name})", f"{record.getMessage()} {record.exc_text or ''}")
    assert_clean_folders(tmp_path, but=given.values())
