"""Completion and the man page: made from the parsers, so what is tested here is that nothing of them is lost, and that
the shells take the scripts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from getm.cli import shells
from getm.cli.completion import SHELLS
from getm.cli.options import build_parser
from getm.cli.schema import Kind, commands
from tests.support.command import failure, getm

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "getm.1"


def wants(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def test_every_word_is_the_commands(tmp_path: Path) -> None:
    """The words stand in cli.py once more, which imports a command only when it is called."""
    for command in commands():
        words = [command.word] if command.word else []
        run = getm(*words, "--help", cwd=tmp_path)
        assert run.returncode == 0
        assert run.stdout.decode().startswith(f"usage: {command.usage.splitlines()[0]}")


def test_the_tree_has_every_option_of_a_parser() -> None:
    downloads = commands()[0]
    names = {name for option in downloads.options for name in option.names}
    assert names == set(build_parser()._option_string_actions)
    by_name = {name: option for option in downloads.options for name in option.names}
    assert by_name["-m"].value is not None and by_name["-m"].value.kind is Kind.FILE
    assert by_name["--progress"].value is not None and "plain" in by_name["--progress"].value.words
    assert by_name["--strict"].value is None
    assert by_name["-H"].repeatable and by_name["-v"].repeatable and not by_name["-o"].repeatable


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_every_option(tmp_path: Path, shell: str) -> None:
    run = getm("completion", shell, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    text = run.stdout.decode()
    assert text == shells.script(shell)
    for command in commands():
        for option in command.options:
            for name in option.names:
                assert re.search(rf"(?<![\w-]){name.lstrip('-') if shell == 'fish' else name}(?![\w-])", text)


def test_other_shells_are_refused(tmp_path: Path) -> None:
    run = getm("completion", "tcsh", cwd=tmp_path)
    assert run.returncode == 2 and "bash" in str(failure(run)["message"])


# bash ----------------------------------------------------------------------------------------------------------------

_BASH = """
source {script}
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_getm 2>/dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "getm.bash"
    path.write_text(shells.script("bash"))
    return path


@pytest.mark.parametrize(
    ("words", "replies"),
    [
        (["ver"], ["verify"]),
        (["--prog"], ["--progress"]),
        (["--progress", "j"], ["json"]),
        (["--progress", "=", "p"], ["plain"]),
        (["--progress", "="], ["auto", "bar", "plain", "json", "none"]),
        (["verify", "--rec"], ["--receipt"]),
        (["verify", "-a", "sha25"], ["sha256"]),
        (["verify", "--progress", "j"], []),
        (["https://host/x", "-x"], ["-x"]),
        (["hash", "--t"], ["--tag"]),
        (["completion", ""], list(SHELLS)),
        (["-m", "an"], []),
        (["https://host/x", "ver"], []),
    ],
)
def test_bash_completes(tmp_path: Path, bash_script: Path, words: list[str], replies: list[str]) -> None:
    (tmp_path / "a name").mkdir()
    command = ["bash", "--norc", "-c", _BASH.format(script=bash_script), "bash", "getm", *words]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (run.stdout.split(), run.stderr) == (replies, "")


def test_bash_knows_how_to_complete_getm(bash_script: Path) -> None:
    command = f"source {bash_script} && complete -p getm"
    run = subprocess.run(["bash", "--norc", "-c", command], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("complete -o default -F _getm getm\n", "")


# Other shells --------------------------------------------------------------------------------------------------------


@wants("zsh")
def test_zsh_takes_the_script(tmp_path: Path) -> None:
    (tmp_path / "_getm").write_text(shells.script("zsh"))
    command = f"autoload -Uz compinit && compinit -D && source {tmp_path}/_getm && print $_comps[getm]"
    run = subprocess.run(["zsh", "-f", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert (run.stdout, run.stderr) == ("_getm\n", "")


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
    (tmp_path / "getm.fish").write_text(shells.script("fish"))
    command = f"source getm.fish; complete -C '{line}'"
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        ["fish", "--no-config", "-c", command], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert {reply.partition("\t")[0] for reply in run.stdout.splitlines()} == expected


# The man page --------------------------------------------------------------------------------------------------------


def test_the_man_page_is_up_to_date() -> None:
    run = subprocess.run([sys.executable, ROOT / "dev_scripts" / "man_page.py", "--check"], capture_output=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")


def test_the_man_page_has_every_option_and_word() -> None:
    text = PAGE.read_text().replace("\\-", "-")
    for command in commands():
        assert f"GETM {command.word.upper()}".rstrip() in text
        for option in command.options:
            assert all(f"\\fB{name}\\fR" in text for name in option.names)


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
