"""Builds the documentation site: pages of docs/, the reference from docstrings and parsers, every page
as Markdown beside its HTML, and llms.txt.

python dev_scripts/build_site.py [FOLDER]    # build/ by default; then: python -m http.server -d FOLDER/site
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import command_reference
import python_reference
import yaml

ROOT = Path(__file__).parent.parent


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0] if arguments else ROOT / "build").absolute()
    source, site = folder / "docs", folder / "site"
    for old in (source, site):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(ROOT / "docs", source)
    for name, text in {**python_reference.pages(), command_reference.PATH: command_reference.page()}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    # The configuration's paths are relative to it.
    shutil.copy(ROOT / "mkdocs.yml", folder)
    config = yaml.safe_load((folder / "mkdocs.yml").read_text())
    pages = list(_pages(config["nav"]))
    if unlisted := {str(path.relative_to(source)) for path in source.rglob("*.md")} - {page for _, _, page in pages}:
        print(f"mkdocs.yml has no place in nav for {', '.join(sorted(unlisted))}", file=sys.stderr)
        return 1
    zensical = Path(sys.executable).with_name("zensical")
    command = [str(zensical), "build", "--strict", "--clean", "--config-file", str(folder / "mkdocs.yml")]
    built = subprocess.run(command, env={**os.environ, "NO_COLOR": "1"})
    if built.returncode:
        return built.returncode
    for _, _, page in pages:
        (site / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / page, site / page)
    (site / "llms.txt").write_text(_index(config, pages, source))
    texts = ((source / page).read_text().strip() for _, _, page in pages)
    (site / "llms-full.txt").write_text("\n\n".join(texts) + "\n")
    return 0


def _pages(nav: list[Any], section: str = "") -> Iterator[tuple[str, str, str]]:
    """Section, title and path of each page."""
    for item in nav:
        ((title, content),) = item.items()
        if isinstance(content, str):
            yield section, title, content
        else:
            yield from _pages(content, section or title)


def _index(config: dict[str, Any], pages: list[tuple[str, str, str]], source: Path) -> str:
    """llms.txt, as https://llmstxt.org describes it: a list of all pages, as Markdown."""
    lines, last = [f"# {config['site_name']}", "", f"> {config['site_description']}"], None
    for section, title, page in pages:
        if section != last:
            lines += ["", f"## {section}", ""] if section else [""]
            last = section
        lines.append(f"- [{title}]({config['site_url']}{page}): {_summary((source / page).read_text())}")
    return "\n".join(lines) + "\n"


def _summary(page: str) -> str:
    """The first sentence of the first paragraph."""
    for paragraph in page.split("\n\n"):
        text = " ".join(paragraph.split())
        if not text.startswith(("#", "`" * 3, "|", "- ", "<", "!")):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
            return re.split(r"(?<=[.:])\s", text)[0].rstrip(":")
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
