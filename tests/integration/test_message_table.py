"""Every message that tells a cause and the next step: on a terminal for people, and as JSON for programs."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import getm
from getm import errors
from getm.cli import hash, options, verify
from getm.cli.suggestions import OF_OTHER_TOOLS
from getm.testing import FaultServer, Reply, no_reply, redirect
from getm.testing import failure as refusal
from tests.support.certificates import Authority
from tests.support.command import failure, on_a_terminal, refused, refused_on_a_terminal
from tests.support.command import getm as run_getm
from tests.support.nginx import NginxServer
from tests.support.terminal import screen

HEX = "9e107d9d372bb6826bd81d3542a419d6"
U = "http://h.test/x"


def lines_of(shown: str) -> list[str]:
    # Wide enough for each message.
    return screen(shown, columns=1000)


def check(status: int, shown: str, expected: str) -> str:
    """The one line on a terminal."""
    (line,) = lines_of(shown)
    assert line.startswith("✗ ") and re.fullmatch(expected, line.removeprefix("✗ ")), line
    assert "SECRET" not in shown and "ERROR:getm" not in shown
    return line


# Refused before any request ------------------------------------------------------------------------------------------

REFUSED: tuple[tuple[tuple[str, ...], str], ...] = (
    # URLs.
    (("",), r"the URL is empty, expected an http or https URL: is a variable not set\?"),
    (("example.org/a.bam?sig=SECRET",), r"the URL has no scheme; did you mean https://example\.org/a\.bam\?"),
    (("example.org:8443/a",), r"the URL has no scheme; did you mean https://example\.org:8443/a\?"),
    (("localhost:8000/a",), r"the URL has no scheme; did you mean http://localhost:8000/a\?"),
    (("//example.org/a",), r"the URL has no scheme; did you mean https://example\.org/a\?"),
    (("https:/example.org/a",), r"the URL is malformed; did you mean https://example\.org/a\?.*"),
    (("https//example.org/a",), r"the URL is malformed; did you mean https://example\.org/a\?.*"),
    (("htps://example.org/a?SECRET",), r"there is no scheme 'htps'; did you mean https://example\.org/a\?.*"),
    (("https://",), r"the URL has no host.*"),
    (("http://h:0/",), r"the URL has the port 0, to which nobody can connect.*"),
    (("/data/a.bam",), r"expected an http or https URL, got a path.*"),
    (("C:\\a.bam",), r"expected an http or https URL, got a path.*"),
    (("user@host:a.bam",), r"expected an http or https URL, got a place as scp and rsync take it.*"),
    (
        ("wasbs://c@a.blob.core.windows.net/k",),
        r".*got the scheme 'wasbs': give it as az://CONTAINER@ACCOUNT\.blob\.core\.windows\.net/BLOB.*",
    ),
    (("ftp://u:SECRET@h.test/a",), r".*the same files over https: did you mean https://h\.test/a\?.*"),
    (("file:///a",), r".*a local file needs no download: getm hash and getm verify take its path.*"),
    (("magnet:?xt=SECRET",), r".*got the scheme 'magnet': use aria2c.*"),
    (("gopher://h.test/a",), r"expected an http or https URL, got the scheme 'gopher'.*"),
    # Words.
    (("verfy", "a"), r"verfy is neither a URL nor a command; did you mean getm verify\?"),
    (("frobnicate",), r"frobnicate is neither a URL nor a command; the commands are .*demo.*verify.*see getm --help.*"),
    (("a-file",), r"a-file is a file: to download what it lists give -i a-file; getm verify and getm hash read files"),
    (("out.bin", U), "the URL comes first: getm URL FILE"),
    (("-O", U), "-O and -o take a FILE here; without them, the file is named by the server or the URL"),
    # Options.
    (("--progres", U), r"unknown option: --progres; did you mean --progress\?"),
    (("--conc=8", U), r"unknown option: --conc; did you mean --concurrency\?"),
    (("--frobnicate", U), "unknown option: --frobnicate; see getm --help"),
    (("verify", "--frobnicate"), "unknown option: --frobnicate; see getm verify --help"),
    (("verify", "-L", "a-file"), "unknown option: -L; see getm verify --help"),
    (("verify", "-c", "a-file"), "unknown option: -c; files are checked in any case: leave it out"),
    (("hash", "--check", "a-file"), "unknown option: --check; use getm verify"),
    (("hash", "--algoritm=md5", "a-file"), r"unknown option: --algoritm; did you mean --algorithm\?"),
    (("-7", U), "unknown option: -7; see getm --help"),
    (("-P", "dir", U), "unknown option: -P; use -d DIR"),
    (("-Pdir", U), "unknown option: -P; use -d DIR"),
    (("-L", U), "unknown option: -L; redirects are followed in any case: leave it out"),
    (("-LO", "a", U), "unknown option: -L; redirects are followed in any case: leave it out"),
    (("-C", "-", U), "unknown option: -C; an interrupted download resumes by itself: leave it out"),
    (("--continue", U), "unknown option: --continue; an interrupted download resumes by itself: leave it out"),
    (("-uuser:SECRET", U), "unknown option: -u; use -H 'Authorization: ...', or --netrc"),
    (("--password=SECRET", U), "unknown option: --password; use -H 'Authorization: ...', or --netrc"),
    (("-X", "POST", U), "unknown option: -X; only GET requests are made"),
    (("--max-concurrent-downloads=4", U), "unknown option: --max-concurrent-downloads; use -j N"),
    (
        ("-fsSL", U),
        r"unknown options: -f \(an error status is .*\), -s \(use -q\), -S \(.*\), -L \(redirects .*\)",
    ),
    (
        ("-x", U + "?SECRET"),
        r".*-x/--concurrency: invalid int or auto value: 'http://h\.test/x'; must be a number .*",
    ),
    (
        ("--timeout", U + "?SECRET"),
        r"argument --timeout: must be a number of seconds above 0, not 'http://h\.test/x'.*",
    ),
    (("--format", U + "?SECRET"), r"argument --format: invalid choice: 'http://h\.test/x' \(choose from .*"),
    (("--limit-rate", "fast", U), r"argument --limit-rate: must be an amount of bytes .* like 500K.*, not 'fast'.*"),
    (("--progress", "fancy", U), r"argument --progress: invalid choice: 'fancy' \(choose from .*"),
    # Checksums.
    ((U, "--checksum", HEX), rf"a checksum begins with its algorithm; did you mean md5:{HEX}\?"),
    ((U, "--checksum", HEX + "-3"), rf"a checksum begins with its algorithm; did you mean s3-etag:{HEX}-3\?"),
    ((U, "--checksum", "ab" * 20), r"a checksum begins with its algorithm; did you mean sha1:(ab){20}\?"),
    ((U, "--checksum", "ab" * 32), r"a checksum begins with its algorithm; did you mean sha256:(ab){32}\?"),
    ((U, "--checksum", "ab" * 64), r"a checksum begins with its algorithm; did you mean sha512:(ab){64}\?"),
    (
        (U, "--checksum", "nhB9nTcrtoJr2B01QqQZ1g=="),
        r"a checksum begins .*; did you mean md5:nhB9nTcrtoJr2B01QqQZ1g==\?",
    ),
    (
        (U, "--checksum", f"sha265:{HEX * 2}"),
        r"unknown checksum algorithm 'sha265': expected one of .*; did you mean sha256\?",
    ),
    ((U, "--checksum", f"tiger:{HEX}"), r"unknown checksum algorithm 'tiger': expected one of sha512, .*"),
    (
        (U, "--checksum", "md5:abc"),
        r"expected a md5 checksum as 32 hexadecimal characters .*, got 'abc' \(3 characters\)",
    ),
    # Files.
    (("-m", "missing.json"), "The list missing.json cannot be read: No such file or directory"),
    (("--cacert", "missing.pem", U), r"argument --cacert: there is no file or folder 'missing\.pem'.*"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a-file").write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(("arguments", "expected"), REFUSED, ids=[" ".join(given)[:40] for given, _ in REFUSED])
def test_what_is_refused_before_any_request(arguments: tuple[str, ...], expected: str, folder: Path) -> None:
    status, shown = refused_on_a_terminal(*arguments, cwd=folder)
    assert status == 2
    line = check(status, shown, expected)
    run = refused(*arguments, cwd=folder)
    assert run.returncode == 2 and str(failure(run)["message"]).removesuffix(".") in line


def test_bare_getm_shows_a_short_usage(tmp_path: Path) -> None:
    status, shown = refused_on_a_terminal(cwd=tmp_path)
    lines = lines_of(shown)
    assert status == 2 and lines[0].startswith("usage: getm ") and "getm --help" in lines[-1] and len(lines) <= 15
    run = refused(cwd=tmp_path)
    assert run.returncode == 2 and failure(run)["message"] == "one of URL and --manifest must be given; see getm --help"


@pytest.mark.parametrize("arguments", [given for given, _ in REFUSED][::12])
def test_the_installed_command_says_the_same(arguments: tuple[str, ...], folder: Path) -> None:
    expected = dict(REFUSED)[arguments]
    status, shown = on_a_terminal(*arguments, cwd=folder)
    assert status == 2
    line = check(status, shown, expected)
    run = run_getm(*arguments, cwd=folder)
    assert run.returncode == 2 and str(failure(run)["message"]).removesuffix(".") in line


@pytest.mark.parametrize("module", [options, verify, hash])
def test_an_option_of_another_tool_is_none_here(module: Any) -> None:
    """Whoever gives getm such an option takes it out of the table."""
    parser = module.build_parser()
    known = parser._option_string_actions
    theirs = OF_OTHER_TOOLS[parser.prog]
    assert [name for name in theirs if name in known] == []
    for advice in set(theirs.values()):
        named = re.findall(r"(?<![\w-])--?[A-Za-z][a-z-]*", advice)
        assert all(name in known for name in named), advice


def test_a_list_is_refused_with_each_problem(folder: Path) -> None:
    rows = [{"url": "example.org/a"}, {"url": "ftp://h.test/k"}, {"url": "http://h.test/a", "md5": "SECRETNOT"}]
    (folder / "list.json").write_text(json.dumps(rows))
    status, shown = refused_on_a_terminal("-m", "list.json", cwd=folder)
    first, *others = lines_of(shown)
    assert status == 2 and first == "✗ list.json has 3 problems:"
    assert "did you mean https://example.org/a?" in others[0] and "over https" in others[1]
    assert len(others) == 3


# From the network ----------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where the rows below lead."""

    refused: str
    not_http: str
    not_tls: str
    good: str


@pytest.fixture
def place(fault_server: FaultServer, nginx: NginxServer) -> Iterator[Place]:
    with socket.socket() as closed:
        # Bound, and not listening.
        closed.bind(("127.0.0.1", 0))
        yield Place(
            f"127.0.0.1:{closed.getsockname()[1]}",
            fault_server.serve("/raw", Reply(raw=b"SSH-2.0-OpenSSH_9.2\r\n\r\n", then="close")),
            nginx.url("/status/404").replace("http:", "https:"),
            fault_server.serve("/x", Reply(body=b"a\0b" * 1000)),
        )


UNKNOWN_NAME = (
    r"there is no host nowhere\.invalid{of}: .*; check the name in {named}"
    r"|the name nowhere\.invalid{of} could not be resolved: .*; check this machine's network and its name servers"
)

FAILING: tuple[tuple[str, str, dict[str, str], int, str], ...] = (
    ("no name", "http://nowhere.invalid/x", {}, 4, UNKNOWN_NAME.format(of="", named="the URL")),
    (
        "refused",
        "http://{refused}/x",
        {},
        4,
        r"no connection to {refused}: Connection refused; nothing listens there: check the address and the port",
    ),
    (
        "proxy refused",
        "http://h.test/x",
        {"http_proxy": "http://user:SECRET@{refused}"},
        4,
        r"no connection to the proxy {refused} \(from http_proxy\): Connection refused; "
        r"correct http_proxy, unset it, or exempt the host by no_proxy",
    ),
    (
        "no name of a proxy",
        "https://h.test/x",
        {"https_proxy": "nowhere.invalid:3128"},
        4,
        UNKNOWN_NAME.format(of=r" of the proxy nowhere\.invalid:3128 \(from https_proxy\)", named="https_proxy"),
    ),
    (
        "SOCKS",
        "http://h.test/x",
        {"all_proxy": "socks4://user:SECRET@{refused}"},
        2,
        r"all_proxy names the proxy socks4://{refused}: of SOCKS only version 5 is supported; name one by http://, "
        r"https://, socks5:// or socks5h://, or exempt the host by no_proxy",
    ),
    ("no HTTP", "{not_http}", {}, 4, r"expected an HTTP response, and what came is none \(.*\); check the port"),
    ("no TLS", "{not_tls}", {}, 4, r"127\.0\.0\.1 does not speak TLS on this port; did you mean http://\?"),
)


@pytest.mark.parametrize(
    ("url", "variables", "status", "expected"), [row[1:] for row in FAILING], ids=[row[0] for row in FAILING]
)
def test_what_the_network_does(
    url: str, variables: dict[str, str], status: int, expected: str, place: Place, tmp_path: Path
) -> None:
    names = place._asdict()
    url, expected = url.format(**names), expected.replace("{refused}", re.escape(place.refused))
    variables = {name: value.format(**names) for name, value in variables.items()}
    found, shown = on_a_terminal("--retries=0", url, cwd=tmp_path, variables=variables)
    assert found == status
    line = check(found, shown, rf"\w+: (?:{expected})(?: \(http.*\))?")
    run = run_getm("--retries=0", url, cwd=tmp_path, variables=variables)
    assert run.returncode == status and str(failure(run)["message"]) in line


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "expired",
            r"the certificate of 127\.0\.0\.1 has expired: its operator must renew it "
            r"\(it is 20\d\d-.* UTC by this machine's clock\)",
        ),
        (
            "unknown",
            r"the certificate of 127\.0\.0\.1 is not trusted \(.*certificate.*\); "
            r"for a private certificate authority give cacert \(--cacert FILE\)",
        ),
        ("wrong host", r"the server's certificate is not that of 127\.0\.0\.1 \(.*\); check the name in the URL"),
    ],
)
def test_certificates(kind: str, expected: str, authority: Authority, tmp_path: Path) -> None:
    """Only an unknown authority is a reason to trust another one."""
    issuer = Authority(tmp_path / "other") if kind == "unknown" else authority
    names = ("elsewhere.test",) if kind == "wrong host" else ()
    with FaultServer(tls=issuer.issue(*names, expired=kind == "expired").server_context()) as server:
        url = server.serve("/x", Reply(body=b"x"))
        status, shown = on_a_terminal(url, "--cacert", authority.ca_path, cwd=tmp_path)
        assert status == 4
        line = check(status, shown, rf"x: {expected} \({re.escape(url)}\)")
        run = run_getm(url, "--cacert", authority.ca_path, cwd=tmp_path)
        # The clock may have gone on by a minute.
        assert run.returncode == 4 and str(failure(run)["message"]).partition(" (it is")[0] in line
        with getm.Session(cacert=authority.ca_path) as session, pytest.raises(errors.TLSFailed) as caught:
            session.read(url)
        assert ("cacert" in caught.value.message) == (kind == "unknown")


@pytest.mark.parametrize(
    ("reply", "status", "expected"),
    [
        (refusal(404), 8, r"404 Not Found"),
        (Reply(status=404, reason="", body=b""), 8, r"404 Not Found"),
        (refusal(401), 8, r"401 Unauthorized; give credentials: an Authorization header, or netrc"),
        (refusal(429, retry_after="0"), 8, r"429 Too Many Requests; try again later \(after 2 requests\)"),
        (refusal(503, retry_after="0"), 8, r"503 Service Unavailable; try again later \(after 2 requests\)"),
        (no_reply("close"), 4, r"the connection was closed without a response; try again \(after \d requests\)"),
        (
            Reply(body=b"x" * 9, cut_at=4),
            4,
            r"the connection was closed \d bytes before .*; try again \(after .*\)",
        ),
        (
            redirect("ftp://h.test/a"),
            4,
            r"a redirect that cannot be followed: expected an http or https URL.*",
        ),
    ],
)
def test_what_a_server_answers(
    reply: Reply, status: int, expected: str, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", reply)
    found, shown = on_a_terminal("--retries=1", f"{url}?sig=SECRET", cwd=tmp_path, columns=1000)
    assert found == status
    line = check(found, shown, rf"x: {expected} \({re.escape(url)}\)(, \d retr(y|ies))?")
    run = run_getm("--retries=1", url, cwd=tmp_path)
    assert run.returncode == status and str(failure(run)["message"]) in line


# From the disk, and for a terminal -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [["a-file/x"], ["a-file/deep/x"], ["-d", "a-file"], ["a-file/"], ["-o", "a-file/"]])
def test_a_file_where_a_folder_should_be(
    target: list[str], place: Place, fault_server: FaultServer, folder: Path
) -> None:
    """Known before anything is requested."""
    status, shown = on_a_terminal(place.good, *target, cwd=folder)
    assert status == 3
    check(
        status,
        shown,
        r"(a-file/(deep/)?x cannot be written|x): a-file is a file, and should be a folder; choose another folder, "
        r"or move the file away \(http.*\)",
    )
    run = run_getm(place.good, *target, cwd=folder)
    assert run.returncode == 3 and "a-file is a file, and should be a folder" in str(failure(run)["message"])
    assert fault_server.requests == [] and (folder / "a-file").read_bytes() == b"x"


def test_binary_is_not_printed_on_a_terminal(place: Place, fault_server: FaultServer, tmp_path: Path) -> None:
    status, shown = on_a_terminal(place.good, "-", cwd=tmp_path, stdout=None)
    assert status == 3
    check(
        status,
        shown,
        r"x: the data is binary, and would go to a terminal; give a FILE, or a pipe \(http.*\)",
    )
    assert "\0" not in shown
    run = run_getm(place.good, "-", cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"a\0b" * 1000, b"")
    text = fault_server.serve("/text", Reply(body=b"one\ntwo\n"))
    assert on_a_terminal(text, "-", cwd=tmp_path, stdout=None) == (0, "one\r\ntwo\r\n")


# In Python -----------------------------------------------------------------------------------------------------------


def test_one_where_several_are_wanted_and_several_where_one_is() -> None:
    wrong: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
        (
            getm.download_all,
            {"entries": U},
            "entries must be several URLs or getm.Entry values, such as a list, not a str",
        ),
        (getm.download_all, {"entries": U}, "for a single one use download, or put it into a list"),
        (getm.read, {"url": U, "mirrors": U}, "mirrors must be several URLs, such as a list of str, not a str"),
        *(
            (call, {"url": [U]}, "a URL must be a str, not list; for several URLs use download_all")
            for call in (getm.read, getm.download, getm.info, getm.open, getm.urlopen)
        ),
        (getm.read, {"url": "h.test/x"}, "the URL has no scheme; did you mean https://h.test/x?"),
        (getm.read, {"url": ""}, "the URL is empty"),
        (getm.read, {"url": U, "checksum": HEX}, f"did you mean md5:{HEX}?"),
        (getm.download_all, {"entries": [U, "ftp://h.test/k"]}, "did you mean https://h.test/k?"),
    ]
    for call, arguments, expected in wrong:
        with pytest.raises(errors.InvalidInput, match=re.escape(expected)):
            list(call(**arguments))
