"""The page of results: their tables and charts, for docs/explanation/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.harness.chart import chart
from benchmarks.harness.question import Question
from benchmarks.harness.results import Result
from benchmarks.harness.tables import markdown_table

PAGE = "benchmarks.md"
CHARTS = "benchmarks"  # the folder beside it
_BEGIN = "<!-- What follows is written by `python -m benchmarks page`. -->"


def pages(results: Mapping[str, Result], questions: Mapping[str, Question], before: str) -> dict[str, str]:
    """The files of the page of some results by their paths in its folder. `results`: by the names of their files; of
    those that answer a question the last one counts. `before`, what the page holds now: what stands above the results
    stays."""
    latest = {
        asked: name
        for name, result in results.items()
        for asked, answer in result.answers.items()
        if asked in questions and answer.series
    }
    files, sections = {}, [before.partition(_BEGIN)[0].rstrip(), _BEGIN]
    sections += [_environment(result, name) for name, result in results.items() if name in latest.values()]
    for asked, question in questions.items():
        if asked not in latest:
            continue
        result = results[latest[asked]]
        answer = result.answers[asked]
        files[f"{CHARTS}/{asked}.svg"] = chart(question, answer)
        heads = ["", "", *(column.head for column in question.columns)]
        missing = "; ".join(f"{tool}: {why}" for tool, why in answer.missing.items())
        sections += [
            f"## {question.title}",
            f"{_how(question)} Measured on {result.machine['date'][:10]}, at commit {result.machine['commit']}.",
            f"![{question.title}]({CHARTS}/{asked}.svg)",
            markdown_table(heads, list(answer.rows(question.columns, brief=True)), left=2),
            *([f"Not measured: {missing}."] if missing else []),
        ]
    files[PAGE] = "\n\n".join(sections).lstrip() + "\n"
    return files


def write_page(saved: Iterable[Path], questions: Mapping[str, Question], folder: Path) -> None:
    """Write the page of results, and its charts, into `folder`."""
    page = folder / PAGE
    before = page.read_text() if page.exists() else ""
    results = {each.name: Result.load(each) for each in saved}
    for name, text in pages(results, questions, before).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _how(question: Question) -> str:
    paragraphs = (question.how or "").split("\n\n")[1:]
    return "\n\n".join([*(" ".join(each.split()) for each in paragraphs), f"Alone: `--only {question.name}`."])


def _environment(result: Result, name: str) -> str:
    machine = result.machine
    smaller = " Quick: with a twentieth of all sizes." if result.quick else ""
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    return (
        f"## Measured on {machine['date'][:10]}\n\n"
        f"getm at commit {machine['commit']}; {machine['cores']} cores ({machine['processor']}), {machine['memory']}, "
        f"{machine['file system']}; {machine['system']}.{smaller} Rounds: {result.rounds}. The machine's load before "
        f"was {result.load_before}. {versions}. "
        f"Every run: `{name}`."
    )
