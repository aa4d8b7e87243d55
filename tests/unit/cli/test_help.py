"""The help: it fits a terminal of 80 columns, and what its texts say is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from getm.cli import exit_status
from getm.cli.defaults import NOT_A_DEFAULT
from getm.cli.help import COMMANDS, TOPICS, overview, read_topic
from getm.cli.options import SHORT, build_parser
from getm.integrity.algorithms import available_algorithms
from getm.manifests.formats import FORMATS
from tests.support.command import failure, getm, refused

# Of other commands: of getm hash and verify, and of programs in examples.
OTHERS = {"--algorithm", "--repair"}


def texts() -> Iterator[tuple[str, str]]:
    yield "-h", SHORT
    yield "overview", overview()
    yield from ((topic, read_topic(topic)) for topic in TOPICS)


@pytest.mark.parametrize("word", ("", *COMMANDS))
def test_the_whole_help_fits_80_columns(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run = refused(*([word] if word else []), "--help", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert max(map(len, run.stdout.decode().splitlines())) <= 80


@pytest.mark.parametrize(("name", "text"), list(texts()))
def test_texts_fit_and_name_only_options_that_there_are(name: str, text: str) -> None:
    assert max(map(len, text.splitlines())) < 80 and text.endswith("\n") and len(text.splitlines()) <= 45
    known = build_parser()._option_string_actions
    for option in re.findall(r"(?<![\w\-\"])--[a-z][a-z-]*", text):
        assert option in known or option in OTHERS, option
    for topic in re.findall(r"getm help ([a-z-]+)", text):
        assert topic in (*TOPICS, *COMMANDS), topic


def test_the_short_help(tmp_path: Path) -> None:
    run = refused("-h", cwd=tmp_path)
    assert (run.returncode, run.stdout.decode(), run.stderr) == (0, SHORT, b"")
    known = build_parser()._option_string_actions
    # Combined here: "-q, -v, --json" are three options.
    for option in re.findall(r"(?m)(?:^  |, |; )(-{1,2}[a-zA-Z-]+)", SHORT):
        assert option in known, option


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_is_printed(topic: str, tmp_path: Path) -> None:
    run = refused("help", topic, cwd=tmp_path)
    assert (run.returncode, run.stdout.decode(), run.stderr) == (0, read_topic(topic), b"")
    # A title, of which the part before the colon is the topic.
    assert read_topic(topic).partition(":")[0].lower().replace(" ", "-") == topic
    assert topic in overview() and topic in build_parser().format_help()


def test_topics_as_an_installed_command_prints_them(tmp_path: Path) -> None:
    run = getm("help", cwd=tmp_path)
    assert (run.returncode, run.stdout.decode(), run.stderr) == (0, overview(), b"")


def test_the_help_of_another_command(tmp_path: Path) -> None:
    for command in COMMANDS:
        assert refused("help", command, cwd=tmp_path).stdout == refused(command, "--help", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["list"], "did you mean lists?"), (["zzz"], "topics are lists, "), (["lists", "files"], "too many operands")],
)
def test_there_is_no_such_topic(arguments: list[str], words: str, tmp_path: Path) -> None:
    run = refused("help", *arguments, cwd=tmp_path)
    assert run.returncode == 2 and words in str(failure(run)["message"])


def test_exit_statuses_are_all_named() -> None:
    named = {int(number) for number in re.findall(r"(?m)^  (\d+) ", read_topic("exit-status"))}
    of_errors = {value for name, value in vars(exit_status).items() if name.startswith("EXIT_")}
    assert named == of_errors - {exit_status.EXIT_SIGNAL} | {129, 130, 143}


def test_what_lists_and_checksums_can_be_is_all_named() -> None:
    lists, checksums = read_topic("lists"), read_topic("checksums")
    assert all(re.search(rf"\b{name}\b", lists) for name in FORMATS)
    assert all(re.search(rf"\b{name}\b", checksums) for name in available_algorithms())


def test_what_has_no_default_is_all_named() -> None:
    text = read_topic("config")
    options = NOT_A_DEFAULT - {"help", "version", "config", "filepath"}
    assert all(f"--{name}" in text for name in options)
