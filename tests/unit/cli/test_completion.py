"""Completion scripts and the man page, which are made from the parsers: none of the options is missing, and the shells
take the scripts."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from getm.cli import completion, demo, hash, help, options, report, verify
from getm.cli.completion import SHELLS
from tests.support.command import failure, getm

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "getm.1"
COMMANDS: list[Any] = [verify, hash, report, completion, demo, help]
PARSERS: dict[str, Any] = {"": options, **{module.__name__.rpartition(".")[2]: module for module in COMMANDS}}


def wants(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def script_path(shell: str) -> Path:
    return ROOT / "getm" / "cli" / "completions" / f"getm.{shell}"


def every_option() -> Iterator[str]:
    for module in PARSERS.values():
        parser: argparse.ArgumentParser = module.build_parser()
        yield from parser._option_string_actions


def test_what_is_generated_is_up_to_date() -> None:
    run = subprocess.run([sys.executable, ROOT / "dev_scripts" / "generate.py", "--check"], capture_output=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")


@pytest.mark.parametrize("word", PARSERS)
def test_every_word_is_the_commands(tmp_path: Path, word: str) -> None:
    """The words stand in main.py once more, which imports a command only when it is called."""
    run = getm(*([word] if word else []), "--help", cwd=tmp_path)
    assert run.returncode == 0
    assert run.stdout.decode().startswith(f"usage: getm {word}".rstrip())


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_every_option(tmp_path: Path, shell: str) -> None:
    run = getm("completion", shell, cwd=tmp_path)
    assert (run.returncode, run.stderr, run.stdout) == (0, b"", script_path(shell).read_bytes())
    text = run.stdout.decode()
    for name in every_option():
        assert re.search(rf"(?<![\w-]){name.lstrip('-') if shell == 'fish' else name}(?![\w-])", text)
    for word in PARSERS:
        assert word in text


def test_other_shells_are_refused(tmp_path: Path) -> None:
    run = getm("completion", "tcsh", cwd=tmp_path)
    assert run.returncode == 2 and "bash" in str(failure(run)["message"])


# bash ----------------------------------------------------------------------------------------------------------------

_BASH = """
source {script}
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_shtab_getm 2>/dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "replies"),
    [
        (["ver"], ["verify"]),
        (["--prog"], ["--progress"]),
        (["--progress", "j"], ["json"]),
        (["--progress", ""], ["auto", "bar", "plain", "json", "none"]),
        (["verify", "--rec"], ["--receipt"]),
        (["verify", "-a", "sha25"], ["sha256"]),
        (["verify", "--progress", "j"], []),
        (["https://host/x", "--dry"], ["--dry-run"]),
        (["-d", "a"], ["a", "name"]),
        (["hash", "--ta"], ["--tag"]),
        (["completion", ""], list(SHELLS)),
        (["-m", "a"], ["a", "name"]),
    ],
)
def test_bash_completes(tmp_path: Path, words: list[str], replies: list[str]) -> None:
    (tmp_path / "a name").mkdir()
    command = ["bash", "--norc", "-c", _BASH.format(script=script_path("bash")), "bash", "getm", *words]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (run.stdout.split(), run.stderr) == (replies, "")


def test_bash_knows_how_to_complete_getm() -> None:
    command = f"source {script_path('bash')} && complete -p getm"
    run = subprocess.run(["bash", "--norc", "-c", command], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("complete -o bashdefault -o default -F _shtab_getm getm\n", "")


# Other shells --------------------------------------------------------------------------------------------------------


@wants("zsh")
def test_zsh_takes_the_script(tmp_path: Path) -> None:
    command = f'autoload -Uz compinit && compinit -D && eval "$(cat {script_path("zsh")})" && print $_comps[getm]'
    run = subprocess.run(["zsh", "-f", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert (run.stdout, run.stderr) == ("_shtab_getm\n", "")


@wants("fish")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("getm ver", {"verify"}),
        ("getm --progress ", {"auto", "bar", "plain", "json", "none"}),
        ("getm --prog", {"--progress"}),
        ("getm verify --rec", {"--receipt"}),
        ("getm hash -a md", {"md5"}),
        ("getm completion ", set(SHELLS)),
    ],
)
def test_fish_completes(tmp_path: Path, line: str, expected: set[str]) -> None:
    command = f"source {script_path('fish')}; complete -C '{line}'"
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        ["fish", "--no-config", "-c", command], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert {reply.partition("\t")[0] for reply in run.stdout.splitlines()} == expected


# The man page --------------------------------------------------------------------------------------------------------


def test_the_man_page_has_every_option_and_word() -> None:
    text = PAGE.read_text().replace("\\-", "-")
    assert all(f"\\fB{name}\\fR" in text for name in every_option() if name not in ("-h", "--help"))
    assert all(f"\\fBgetm {word}\\fR" in text for word in PARSERS if word)
    assert {"SYNOPSIS", "EXAMPLES", "EXIT STATUS", "ENVIRONMENT", "FILES"} <= set(re.findall(r"(?m)^\.SH (.*)$", text))


@wants("man")
def test_man_takes_the_page() -> None:
    command = ["man", "--warnings", "-E", "UTF-8", "-l", str(PAGE)]
    run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (run.returncode, run.stderr) == (0, "")
    assert "getm verify --receipt FILE" in run.stdout


@wants("mandoc")
def test_mandoc_takes_the_page() -> None:
    run = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", PAGE], capture_output=True, text=True)
    # The page has no date: it would change with each build.
    assert [line for line in run.stdout.splitlines() if "missing date" not in line] == []
