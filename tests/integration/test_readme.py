"""README.md: short, legible on PyPI too, and its two commands set everything up. Its examples are run by
test_documentation.py."""

from __future__ import annotations

import re

from tests.support.documentation import ROOT

README = (ROOT / "README.md").read_text()


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_its_links_hold_anywhere() -> None:
    targets = re.findall(r"\]\(([^)\s]+)|(?:src|href)=\"([^\"]+)", README)
    assert targets and all("".join(each).startswith("https://") for each in targets)


def test_two_commands_set_everything_up() -> None:
    """The second is what CI runs."""
    commands = re.findall(r"^```bash\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)[-1].splitlines()
    assert [command.partition(" #")[0].rstrip() for command in commands] == [
        "bash dev_scripts/demo",
        "bash dev_scripts/check",
    ]
    assert "bash dev_scripts/check" in (ROOT / ".ci" / "run").read_text()
    assert all((ROOT / command.split()[1]).is_file() for command in commands)
