"""What a person reads of an error on a terminal: once, its cause and what to do; and what a program reads elsewhere."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from getm.testing import FaultServer, Reply
from getm.testing import failure as refusal
from tests.support.command import failure, getm, on_a_terminal
from tests.support.terminal import screen

BODY = bytes(range(256)) * 8


# Once, and in which form ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["-q"], ["-v"], ["--progress=none"], ["--progress=bar"]])
def test_a_failure_on_a_terminal_is_one_line(options: list[str], fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/nothere.bam", refusal(404))
    status, shown = on_a_terminal(*options, f"{url}?sig=SECRET", cwd=tmp_path)
    assert status == 8
    assert screen(shown) == [f"✗ nothere.bam: 404 Not Found ({url})"]


def test_plain_progress_says_it_itself(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/nothere.bam", refusal(404))
    status, shown = on_a_terminal("--progress=plain", url, cwd=tmp_path)
    assert status == 8 and shown.count("404") == 1
    assert f"failed [1/1]: nothere.bam: 404 Not Found ({url})" in shown


@pytest.mark.parametrize("options", [["--json-errors"], ["--json-errors", "-q"]])
def test_json_on_a_terminal(options: list[str], fault_server: FaultServer, tmp_path: Path) -> None:
    """A program may have a terminal, too."""
    url = fault_server.serve("/nothere.bam", refusal(404))
    status, shown = on_a_terminal(*options, url, cwd=tmp_path)
    (line,) = [line for line in screen(shown, columns=1000) if line.startswith("ERROR:getm.cli:")]
    facts = json.loads(line.removeprefix("ERROR:getm.cli:"))
    assert (status, facts["status_code"], facts["url"]) == (8, 404, url)


def test_json_on_a_terminal_by_default(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/nothere.bam", refusal(404))
    status, shown = on_a_terminal(url, cwd=tmp_path, variables={"GETM_JSON_ERRORS": "1"})
    assert status == 8 and shown.startswith("ERROR:getm.cli:{")


def test_a_failure_elsewhere_is_one_line_of_json(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/nothere.bam", refusal(404))
    for options in ([], ["--json-errors"]):
        run = getm(*options, url, cwd=tmp_path)
        assert run.returncode == 8
        assert failure(run) == {
            "message": "404 Not Found",
            "error": "status",
            "url": url,
            "attempts": 1,
            "reason": "Not Found",
            "status_code": 404,
        }


def test_the_failures_of_a_list_on_a_terminal(fault_server: FaultServer, tmp_path: Path) -> None:
    bad, good = fault_server.serve("/bad", refusal(404)), fault_server.serve("/good", Reply(body=BODY))
    rows = [{"url": bad, "filepath": "a/one"}, {"url": bad, "filepath": "b/two"}, {"url": good, "filepath": "c"}]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    for options in ([], ["-q"], ["-v"]):
        status, shown = on_a_terminal("-c", "-m", "list.json", *options, cwd=tmp_path)
        lines = screen(shown)
        assert status == 8 and "ERROR" not in shown
        for name in ("a/one", "b/two"):
            (line,) = [line for line in lines if name in line]
            assert line.startswith("✗ ") and line.endswith(f"{name}: 404 Not Found ({bad})")
        assert sum("2 of 3" in line for line in lines) == 1


def test_an_error_of_the_list_has_a_line_for_each_problem(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text('[{"url": "http://h/a\\u001b[31m"}, {"url": 1}]')
    status, shown = on_a_terminal("-m", "list.json", cwd=tmp_path, variables={"NO_COLOR": "1"})
    assert status == 2
    first, *others = screen(shown)
    assert first.startswith("✗ list.json") and len(others) >= 1 and "ERROR" not in shown and "\x1b[31m" not in shown


def test_the_other_commands(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BODY)
    status, shown = on_a_terminal("verify", "file", "md5:" + "0" * 32, cwd=tmp_path)
    assert status == 1
    assert screen(shown)[0].startswith("✗ file: Checksum failed! Expected md5:000000")
    status, shown = on_a_terminal("hash", "missing", cwd=tmp_path)
    assert (status, screen(shown)) == (1, ["✗ missing cannot be read: No such file or directory"])
    status, shown = on_a_terminal("verify", "--nonsense", cwd=tmp_path)
    assert status == 2 and screen(shown)[0].startswith("✗ unknown option: --nonsense")
    status, shown = on_a_terminal("verify", "--nonsense", "--json-errors", cwd=tmp_path)
    assert status == 2 and shown.startswith('ERROR:getm.cli:{"message": "unknown option: --nonsense')


def test_an_interruption(fault_server: FaultServer, tmp_path: Path) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=BODY * 1000, stall_at=1_000_000, gate=gate))

    number: list[int] = []

    def interrupt(shown: str) -> None:
        if number and "KiB" in shown:
            os.kill(number.pop(), signal.SIGINT)

    status, shown = on_a_terminal(url, cwd=tmp_path, watch=interrupt, begun=number.append)
    gate.open()
    assert status == 130
    assert screen(shown)[-1] == ("✗ Interrupted by SIGINT. Partial data is kept; run the same command to resume")


def test_a_terminal_without_utf_8(tmp_path: Path) -> None:
    status, shown = on_a_terminal(
        "--nonsense", cwd=tmp_path, variables={"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    )
    assert status == 2 and screen(shown) == ["x unknown option: --nonsense; see getm --help"]


@pytest.mark.parametrize(
    ("variables", "mark"),
    [({}, "\x1b[31m✗\x1b[m "), ({"NO_COLOR": "1"}, "✗ "), ({"TERM": "dumb"}, "✗ ")],
)
def test_colours(variables: dict[str, str], mark: str, tmp_path: Path) -> None:
    status, shown = on_a_terminal("--nonsense", cwd=tmp_path, variables={"NO_COLOR": "", **variables})
    assert status == 2 and shown == f"{mark}unknown option: --nonsense; see getm --help\r\n"


def test_a_file_that_is_named_as_its_status(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/404", refusal(404))
    status, shown = on_a_terminal(url, cwd=tmp_path)
    assert (status, screen(shown)) == (8, [f"✗ 404: 404 Not Found ({url})"])


def test_names_that_would_act_on_a_terminal(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/%1b%5b31mx", refusal(404))
    status, shown = on_a_terminal(url, cwd=tmp_path)
    assert status == 8 and "\x1b[31mx" not in shown
    status, shown = on_a_terminal(url, "a\x1b[31mb\nc", cwd=tmp_path)
    (line,) = screen(shown)
    assert line.startswith(r"✗ a\x1b[31mb\nc: 404 Not Found (http")


def test_a_server_cannot_forge_lines(fault_server: FaultServer, tmp_path: Path) -> None:
    content = "<Error><Code>A\x1b[2J</Code><Message>no\r\nERROR:getm.cli:{}\u202egnp.exe</Message></Error>"
    url = fault_server.serve("/x", Reply(status=403, body=content.encode(), reason="No\x1b[31m"))
    status, shown = on_a_terminal(url, cwd=tmp_path)
    assert (status, screen(shown)) == (8, [f"✗ x: 403 No [31m: A [2J: no ({url})"])
    run = getm(url, cwd=tmp_path)
    assert failure(run)["message"] == "403 No [31m: A [2J: no"
