"""The page of a report: one HTML file that loads nothing, and runs no script.

Names, hosts and messages come from servers and lists. All text goes through `_text`, which escapes what HTML and a
reader's eye could take for something else; the policy in the page's head forbids whatever might get through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

from getm._version import __version__
from getm.cli.output.formatting import bytes_text, duration_text, printable
from getm.cli.report import facts, plots
from getm.cli.report.facts import Facts, Host
from getm.cli.report.rows import Row
from getm.core.redact import redact, redact_text

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
# Longer names and messages are cut: a hostile one could be megabytes.
_MOST_CHARS = 300
# More of them stand behind the plots, which would not be found else.
_FEW_FAILURES = 10
_NUMBERS = frozenset({"Files", "Size", "Time", "Speed", "Median speed", "Retries", "Failed"})


def page(title: str, found: Facts) -> Iterator[str]:
    """The page, in pieces."""
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    yield (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)} - getm report</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
    )
    yield f"<header><h1>{_text(title)}</h1>{_period(found)}</header>\n"
    yield _outcome(found)
    yield _tiles(found)
    few = len(found.failures) <= _FEW_FAILURES
    if found.failures and few:
        yield _failures(found)
    yield from _cards(found)
    if not few:
        yield _failures(found)
    if found.files:
        yield _files(found)
    yield _notes(found)
    yield f'<footer class="small muted">Written by getm {__version__}. Sizes in powers of 1024.</footer>\n'
    yield "</main>\n</body>\n</html>\n"


# What is at the top ---------------------------------------------------------------------------------------------------


def _period(found: Facts) -> str:
    if found.began is None or found.ended is None:
        return ""
    form = "%Y-%m-%d %H:%M:%S"
    return f'<p class="muted">{found.began.strftime(form)} to {found.ended.strftime(form)} UTC</p>'


def _outcome(found: Facts) -> str:
    failed, kind = found.counts["failed"], "good"
    if not found.total:
        kind, says = "warn", "This receipt has no files."
    elif failed:
        beside = f" Of the others, nothing verified {found.unverified:,}." if found.unverified else ""
        kind, says = "bad", f"{failed:,} of {_files_text(found.total)} failed.{beside}"
    elif found.unverified:
        kind, says = "warn", f"No file failed, and nothing verified {found.unverified:,} of {_files_text(found.total)}."
    elif found.counts["skipped"]:
        says = f"No file failed. {found.counts['skipped']:,} of {_files_text(found.total)} were skipped, unread."
    else:
        says = "The only file is verified." if found.total == 1 else f"All {found.total:,} files are verified."
    return f'<section class="card outcome {kind}">{says}</section>\n'


def _tiles(found: Facts) -> str:
    seconds = found.seconds
    speed = bytes_text(round(found.received_bytes / seconds)) + "/s" if seconds and found.received_bytes else None
    tiles = {
        "Files": f"{found.total:,}",
        "Downloaded": f"{found.counts['done']:,}",
        "Left as they were": f"{n:,}" if (n := found.counts["left"] + found.counts["skipped"]) else None,
        "Failed": f"{found.counts['failed']:,}",
        "Verified": f"{found.verified:,}",
        "Not verified": f"{found.unverified:,}",
        "Size": bytes_text(found.total_bytes),
        "Time": None if seconds is None else duration_text(seconds) if seconds >= 60 else f"{seconds:.1f} s",
        "Speed overall": speed,
        "Requests": f"{found.requests:,}",
        "Retries": f"{found.retries:,}",
    }
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles.items() if value is not None)
    return f'<section class="card" aria-label="Numbers"><dl class="tiles">{shown}</dl></section>\n'


# Cards ----------------------------------------------------------------------------------------------------------------


def _cards(found: Facts) -> Iterator[str]:
    yield '<div class="pairs">\n'
    if found.verified_by or found.reasons:
        verified = [(f"{algorithm}, declared by {source}", count) for (algorithm, source), count in found.verified_by]
        total = found.verified + found.unverified
        body = _shares(verified, total, "good") + _shares(
            [(f"not verified: {reason}", count) for reason, count in found.reasons], total, "warn"
        )
        yield _card("What verified the files", body)
    if found.causes:
        yield _card("Why downloads failed", _shares(found.causes, found.counts["failed"], "bad"))
    if found.arrived and found.began is not None:
        drawn = plots.curve(found.arrived, found.began, "Bytes in place over time")
        yield _card("What was in place, over time", _figure(drawn, "A file counts when it is complete."))
    if found.sizes:
        drawn = plots.histogram(found.sizes, "Files by size")
        yield _card("Sizes", _figure(drawn, "Files by size; each bar is twice the one before."))
    if found.speeds:
        drawn = plots.histogram(found.speeds, "Files by speed", "/s")
        yield _card("Speeds", _figure(drawn, "Files by their own bytes a second, waits and verification included."))
    if found.limits:
        yield _card("What took most of the time", _shares(found.limits, sum(count for _, count in found.limits), ""))
    yield "</div>\n"
    if found.hosts:
        yield _hosts(found.hosts)


def _card(title: str, body: str) -> str:
    return f'<section class="card"><h2>{title}</h2>{body}</section>\n'


def _figure(drawn: str, caption: str) -> str:
    return f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>"


def _shares(counted: Sequence[tuple[str, int]], total: int, kind: str) -> str:
    shown, rest = counted[: facts.MOST_REASONS], counted[facts.MOST_REASONS :]
    if rest:
        shown = [*shown, (f"{len(rest):,} others", sum(count for _, count in rest))]
    items = "".join(
        f'<li class="{kind}"><div class="label"><span>{_text(name)}</span><span>{count:,}</span></div>'
        f'<div class="track">{plots.share(count / total)}</div></li>'
        for name, count in shown
    )
    return f'<ul class="shares">{items}</ul>' if items else ""


# Tables ---------------------------------------------------------------------------------------------------------------


def _hosts(hosts: Sequence[Host]) -> str:
    rows = (
        f"<tr><td>{_text(host.name)}</td>{_number(f'{host.files:,}')}{_number(bytes_text(host.total_bytes))}"
        f"{_number('' if host.bytes_s is None else f'{bytes_text(round(host.bytes_s))}/s')}"
        f"{_number(f'{host.retries:,}')}{_number(f'{host.failed:,}')}</tr>\n"
        for host in hosts[: facts.MOST_HOSTS]
    )
    heads = ("Host", "Files", "Size", "Median speed", "Retries", "Failed")
    return _table("Hosts", heads, rows, left_out=_left_out(len(hosts), facts.MOST_HOSTS, "hosts"))


def _failures(found: Facts) -> str:
    left_out = _left_out(found.counts["failed"], facts.MOST_FAILURES, "failures")
    return _table("Failures", ("File", "Cause", "Message and URL"), map(_failure, found.failures), "files", left_out)


def _failure(row: Row) -> str:
    message, url = redact_text(row.message or ""), redact(row.url or "")
    return (
        f'<tr><td class="name">{_text(row.path or "")}</td><td class="bad">{_text(facts.cause_of(row))}</td>'
        f'<td class="wide">{_text(message)}<br><span class="muted">{_text(url)}</span></td></tr>\n'
    )


def _files(found: Facts) -> str:
    there = found.counts["done"] + found.counts["left"]
    title = "Files" if there <= facts.MOST_FILES else "The largest files"
    heads = ("File", "Size", "Time", "Speed", "Retries", "Verified by")
    left_out = _left_out(there, facts.MOST_FILES, "files")
    return _table(title, heads, map(_file, found.files), "files", left_out)


def _file(row: Row) -> str:
    seconds, speed = row.seconds, row.bytes_s
    if row.verified_by is not None:
        by = f'<span class="good">{_text(row.verified_by.partition(":")[0])}</span> ({_text(row.declared_by or "")})'
    else:
        by = f'<span class="warn">not verified</span>{_text(f": {row.reason}" if row.reason else "")}'
    if row.status == "left":
        by += '; <span class="muted">was there already</span>'
    return (
        f'<tr><td class="name">{_text(row.path or row.url or "")}</td>{_number(bytes_text(row.size or 0))}'
        f"{_number('' if seconds is None else f'{seconds:.1f} s')}"
        f"{_number('' if speed is None else f'{bytes_text(round(speed))}/s')}"
        f'{_number(f"{row.retries:,}" if row.retries else "")}<td class="wide">{by}</td></tr>\n'
    )


def _number(text: str) -> str:
    return f'<td class="number">{text}</td>'


def _table(title: str, heads: Sequence[str], rows: Iterable[str], kind: str = "", left_out: str = "") -> str:
    kinds = {head: ' class="number"' if head in _NUMBERS else "" for head in heads}
    shown = "".join(f"<th{kinds[head]}>{head}</th>" for head in heads)
    return (
        f'<section class="card"><h2>{title}</h2><div class="scroll"><table class="{kind}">'
        f"<thead><tr>{shown}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody></table></div>{left_out}</section>\n"
    )


def _left_out(total: int, most: int, what: str) -> str:
    if total <= most:
        return ""
    says = f"{most:,} of {total:,} {what} are shown; {total - most:,} are left out here, and counted above."
    return f'<p class="muted">{says}</p>'


def _notes(found: Facts) -> str:
    rows = found.rows
    notes = [
        (found.changed, "names were changed, since those that servers or URLs gave were not safe"),
        (found.coded, "files have a content coding (gzip, ...), and were kept as they came"),
        (rows.earlier, "earlier lines of the same files are not counted: the last one of each is"),
    ]
    said = [f"<li>{count:,} {text}.</li>" for count, text in notes if count]
    if rows.ignored:
        said.append(f"<li>Lists had what getm does not use: {_text(', '.join(rows.ignored))}.</li>")
    if rows.problems:
        said.append(
            f"<li>{len(rows.problems):,} lines could not be understood; the first: {_text(rows.problems[0])}.</li>"
        )
    return f'<section class="card"><h2>Notes</h2><ul>{"".join(said)}</ul></section>\n' if said else ""


def _files_text(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _text(text: str) -> str:
    """`text` as text, whatever it holds."""
    shown = text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}..."
    return escape(printable(shown))
