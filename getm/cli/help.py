"""`getm help [TOPIC]`: short texts about one thing each. The man page has some of them as its sections."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from getm.cli.exit_status import EXIT_OK
from getm.cli.parser import Parser
from getm.errors import InvalidInput

_TEXTS = Path(__file__).parent / "topics"
TOPICS = (
    *("lists", "listing", "checksums", "resume", "connections", "logins", "output", "config", "environment"),
    *("files", "stores", "exit-status"),
)
# Other commands, whose help is that of their parsers.
COMMANDS = ("ls", "run", "serve", "verify", "hash", "report", "sources", "completion", "demo")


def main(arguments: Sequence[str]) -> int:
    """Run `getm help` with `arguments` and return its exit status; raises what getm raises."""
    topic = build_parser().parse(arguments).topic
    if topic is None:
        text = overview()
    elif topic in COMMANDS:
        text = import_module(f"getm.cli.{topic}").build_parser().format_help()
    elif topic in TOPICS:
        text = read_topic(topic)
    else:
        # Needed by few.
        from difflib import get_close_matches

        close = get_close_matches(topic, (*TOPICS, *COMMANDS), 1)
        advice = f"did you mean {close[0]}?" if close else f"topics are {', '.join((*TOPICS, *COMMANDS))}"
        raise InvalidInput(f"there is no help about {topic[:40]!r}; {advice}")
    if sys.stdout is not None:
        sys.stdout.write(text)
    return EXIT_OK


def read_topic(name: str) -> str:
    """The text of a topic: its title on the first line, then what it says."""
    return (_TEXTS / f"{name}.txt").read_text(encoding="utf-8")


def overview() -> str:
    """All topics, with what each is about."""
    width = max(map(len, TOPICS))
    titles = {topic: read_topic(topic).partition("\n")[0].partition(": ")[2] for topic in TOPICS}
    topics = "".join(f"  {topic:{width}}  {title}\n" for topic, title in titles.items())
    commands = f"Or of a command: {', '.join(COMMANDS[:-1])},\n{COMMANDS[-1]}.\nOptions: getm --help\n"
    return f"getm help TOPIC, of these topics:\n\n{topics}\n{commands}"


def build_parser() -> Parser:
    """The parser of `getm help`."""
    parser = Parser(
        prog="getm help",
        usage="getm help [TOPIC]",
        description="Print a short text about one thing: lists, checksums, resume, ...",
    )
    parser.add_argument("topic", nargs="?", metavar="TOPIC", help=f"{', '.join(TOPICS)}; or a command")
    return parser
