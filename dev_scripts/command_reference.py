"""The page of the documentation about the command: every option from the parsers, every topic of `getm help`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from importlib import import_module

from getm.cli import help, main, options

PATH = "reference/command.md"
_INTRODUCTION = """\
# The command

`getm URL ...` downloads; a word in place of the first URL is another command. `getm --help`, `man getm` and this page
have the same options."""


def page() -> str:
    parts = [_INTRODUCTION, "## getm", *_about(options.build_parser())]
    for word in main.WORDS:
        parts += [f"## getm {word}", *_about(import_module(f"getm.cli.{word}").build_parser())]
    parts += ["## getm help TOPIC", "What `getm help` says of each topic."]
    for topic in help.TOPICS:
        title, _, text = help.read_topic(topic).partition("\n")
        parts += [f"### {title.partition(':')[0]}", f"```text\n{title}\n{text.rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _about(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"```text\n{_usage(parser)}\n```"
    if parser.description:
        yield _escaped(parser.description)
    for group in parser._action_groups:
        lines = [_line(parser, action) for action in group._group_actions if action.help is not argparse.SUPPRESS]
        if lines:
            yield f"**{(group.title or '').capitalize()}**"
            yield "\n".join(lines)
    if parser.epilog:
        yield f"```text\n{parser.epilog.strip()}\n```"


def _usage(parser: argparse.ArgumentParser) -> str:
    formatter = parser._get_formatter()
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, "")
    return "\n".join(line.strip() for line in formatter.format_help().strip().splitlines())


def _line(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()
    name = formatter._format_action_invocation(action)
    return f"- `{name}`: {_escaped(' '.join(formatter._expand_help(action).split()))}"


def _escaped(text: str) -> str:
    """Text that is no Markdown."""
    return re.sub(r"([<*\[\]`])", r"\\\1", text)
