"""`getm report`: what its page says of a receipt, how a browser shows it, and that hostile names stay names."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from getm.cli.report.facts import MOST_FAILURES, MOST_FILES
from tests.support.browser import CHROMIUM, Browser
from tests.support.command import failure, getm, names, refused
from tests.support.nginx import NginxServer

START = datetime(2026, 1, 1, tzinfo=UTC)
HOSTILE = '"><script>document.title="bad"</script><img src=https://evil.test/x onerror=alert(1)>\u202egpj.exe'


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def done(number: int, **fields: Any) -> dict[str, Any]:
    usual = {
        "status": "done",
        "url": f"https://data.example.org/{number}",
        "path": f"folder/{number}.bam",
        "size": 1024 * 2 ** (number % 15),
        "host": "data.example.org",
        "checksums": ["md5:" + "0" * 32],
        "verified_by": "md5:" + "0" * 32,
        "declared_by": "caller",
        "started": at(number / 10),
        "ended": at(number / 10 + 1),
        "requests": 1,
        "limited_by": "network",
    }
    return {**usual, **fields}


def failed(number: int, **fields: Any) -> dict[str, Any]:
    facts = {"url": f"https://data.example.org/{number}", "path": f"folder/{number}.bam", "requests": 3, "retries": 2}
    error = {"error": "status", "status_code": 404, "message": "the server answered 404 Not Found"}
    return {"status": "failed", **facts, **error, **fields}


def receipt(folder: Path, *lines: dict[str, Any], name: str = "received.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


class Text(HTMLParser):
    """What a reader sees of a page, and its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] != "style":
            self.words.append(data)


def report(folder: Path, *lines: dict[str, Any]) -> Text:
    receipt(folder, *lines)
    run = refused("report", "received.jsonl", cwd=folder)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
    assert names(folder) == ["received.html", "received.jsonl"]
    return Text((folder / "received.html").read_text(encoding="utf-8"))


def test_what_it_says(tmp_path: Path) -> None:
    page = report(
        tmp_path,
        {"status": "list", "ignored": ["state"]},
        done(0, size=1024**2),
        done(1, size=3 * 1024**2, verified_by="crc32c:00000000", declared_by="x-goog-hash", retries=2, requests=3),
        done(2, verified_by=None, reason="the server declared no checksum", suggested_name="x", content_coding="gzip"),
        done(3, status="left"),
        {"status": "skipped", "path": "kept", "reason": "it exists"},
        failed(4),
        failed(5, error="timeout", status_code=None, message="no response within 60 s"),
        # The last line of a file counts.
        failed(6),
        done(6),
    )
    for words in (
        "2 of 8 files failed. Of the others, nothing verified 1.",
        "Downloaded 4 Left as they were 2 Failed 2 Verified 4 Not verified 1",
        "Requests 13 Retries 6",
        "md5, declared by caller 3",
        "crc32c, declared by x-goog-hash 1",
        "not verified: the server declared no checksum 1",
        "status 404 1",
        "timeout 1",
        "folder/5.bam timeout no response within 60 s https://data.example.org/5",
        "folder/1.bam 3.0 MiB 1.0 s 3.0 MiB/s 2 crc32c (x-goog-hash)",
        "folder/3.bam 8.0 KiB 1.0 s md5 (caller); was there already",
        "1 names were changed",
        "1 files have a content coding",
        "1 earlier lines of the same files are not counted",
        "Lists had what getm does not use: state.",
        "2026-01-01 00:00:00 to 2026-01-01 00:00:01 UTC",
    ):
        assert words in page.text, words


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([done(0)], "The only file is verified."),
        ([done(0), done(1, status="left")], "All 2 files are verified."),
        ([done(0), done(1, verified_by=None)], "No file failed, and nothing verified 1 of 2 files."),
        ([done(0), {"status": "skipped", "path": "x"}], "No file failed. 1 of 2 files were skipped, unread."),
        ([{"status": "done", "size": 0}], "nothing verified 1 of 1 file."),
        ([], "This receipt has no files."),
    ],
)
def test_the_outcome(lines: list[dict[str, Any]], words: str, tmp_path: Path) -> None:
    assert words in report(tmp_path, *lines).text


def test_odd_values(tmp_path: Path) -> None:
    """None of them is an error of the page: a receipt may have been written by another version, or by hand."""
    odd = [
        done(1, started="yesterday"),
        done(2, started="2026-01-01T00:00:00"),
        done(3, started=at(9), ended=at(1)),
        done(4, size=0, host=None, url=None),
        done(5, size=2**63 - 1),
        {"status": "done"},
        failed(6, path=None, url="http://[", message=None, error=None, status_code=None),
        {"status": "failed", "later": {"more": [1]}},
    ]
    assert "of 8 files failed" in report(tmp_path, *odd).text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    secret = "https://u:SECRET@h/x?X-Amz-Signature=SECRET"
    page = report(
        tmp_path,
        done(0, path=HOSTILE, host=HOSTILE, declared_by=HOSTILE, limited_by="</style>" + HOSTILE),
        done(1, path="x" * 1_000_000, verified_by=None, reason=HOSTILE),
        done(2, path="\udcff\x00\x1b[31m", verified_by=f"{HOSTILE}:1"),
        failed(3, path=HOSTILE + "2", url=secret, message=f"{HOSTILE} at {secret}", error=HOSTILE, status_code=None),
        {"status": "list", "ignored": [HOSTILE]},
    )
    assert not {"script", "img", "a", "link", "iframe"} & {*page.tags}
    assert not [name for name in page.attributes if name.startswith("on") or name in ("src", "href")]
    assert "SECRET" not in page.text and "\u202e" not in page.text and "\x1b" not in page.text
    assert '<script>document.title="bad"</script>' in page.text
    assert "\\udcff\\x00\\x1b[31m" in page.text
    assert len((tmp_path / "received.html").read_bytes()) < 40_000


def test_of_many_it_shows_some_and_says_so(tmp_path: Path) -> None:
    lines = [done(number, host=f"host{number % 50}") for number in range(3000)]
    page = report(tmp_path, *lines, *(failed(10_000 + number) for number in range(300)))
    assert f"{MOST_FILES:,} of 3,000 files are shown; 2,500 are left out here, and counted above." in page.text
    assert f"{MOST_FAILURES:,} of 300 failures are shown" in page.text
    assert "20 of 51 hosts are shown; 31 are left out" in page.text
    assert page.tags.count("tr") == MOST_FILES + MOST_FAILURES + 20 + 3


# The command ---------------------------------------------------------------------------------------------------------


def test_from_a_download_to_its_page(tmp_path: Path, nginx: NginxServer) -> None:
    url = nginx.url(nginx.objects.make(200_000))
    run = getm(url, "x", "--receipt", "received.jsonl", cwd=tmp_path)
    run = getm("report", "received.jsonl", "-o", "page.html", cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
    assert "195.3 KiB" in Text((tmp_path / "page.html").read_text()).text
    run = getm("report", "-", cwd=tmp_path, stdin=(tmp_path / "received.jsonl").read_bytes())
    assert run.returncode == 0 and run.stdout.startswith(b"<!DOCTYPE html>") and run.stderr == b""
    assert oct((tmp_path / "page.html").stat().st_mode & 0o777) == oct(0o666 & ~umask())


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["nothere"], 2, "The receipt nothere cannot be read: No such file"),
        (["other"], 2, "other is no receipt: line 1 is no line of a receipt"),
        (["received.jsonl", "-o", "received.jsonl"], 2, "the page would replace the receipt"),
        (["received.jsonl", "-o", "nowhere/x.html"], 3, "nowhere"),
        (["received.jsonl", "-o", "."], 3, "."),
        (["https://h/x?SECRET"], 2, "expected a file, got a URL"),
        ([], 2, "required: RECEIPT"),
    ],
)
def test_what_is_refused(arguments: list[str], status: int, words: str, tmp_path: Path) -> None:
    receipt(tmp_path, done(0))
    (tmp_path / "other").write_text("no receipt\n")
    run = refused("report", *arguments, cwd=tmp_path)
    assert run.returncode == status and words in str(failure(run)["message"])
    assert names(tmp_path) == ["other", "received.jsonl"]


# A browser -----------------------------------------------------------------------------------------------------------

# Text that is hard to read: below the contrast of WCAG 2.2, section 1.4.3.
FAINT = """(() => {
    const numbers = color => color.match(/[\\d.]+/g).map(Number);
    const luminance = color => {
        const [r, g, b] = numbers(color).slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = element => {
        for (let each = element; each; each = each.parentElement) {
            const color = getComputedStyle(each).backgroundColor;
            if (numbers(color)[3] !== 0) return color;
        }
        return "rgb(255, 255, 255)";
    };
    const faint = [];
    for (const element of document.querySelectorAll("body *")) {
        if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
        if (element.tagName === "title") continue;
        const style = getComputedStyle(element);
        const ink = element.namespaceURI.endsWith("svg") ? style.fill : style.color;
        const [high, low] = [luminance(ink), luminance(behind(element))].sort((a, b) => b - a);
        if ((high + 0.05) / (low + 0.05) < 4.5) faint.push([element.outerHTML.slice(0, 80), ink, behind(element)]);
    }
    return faint;
})()"""
WIDTH = "document.documentElement.scrollWidth"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="chromium is not installed")
@pytest.mark.parametrize("files", (40, 100_000))
def test_in_a_browser(files: int, tmp_path: Path) -> None:
    """It is legible at the widths of a desktop and of a phone, in light and dark; it asks for nothing, and no script
    of a hostile name runs."""
    lines = [done(number, retries=int(number % 7 == 0)) for number in range(files)]
    lines += [failed(files + number) for number in range(3)]
    lines += [done(files + 3, path=HOSTILE, size=10**13, host=HOSTILE, verified_by=None, reason=HOSTILE)]
    receipt(tmp_path, *lines)
    assert getm("report", "received.jsonl", cwd=tmp_path).returncode == 0
    page = tmp_path / "received.html"
    grounds = {}
    with Browser(tmp_path / "browser") as browser:
        for width in (1280, 390):
            for scheme in ("light", "dark"):
                browser.open(page, width=width, scheme=scheme)
                assert browser.evaluate(WIDTH) <= width, (width, scheme)
                assert browser.evaluate(FAINT) == [], (width, scheme)
                with Image.open(BytesIO(browser.screenshot())) as image:
                    grounds[width, scheme] = image.convert("L").tobytes()[0]
        assert browser.evaluate("document.title") == "received.jsonl - getm report"
        assert browser.evaluate("document.scripts.length + document.images.length") == 0
        assert browser.evaluate("document.querySelectorAll('svg').length") > 3
        # Of so many files, a page of a size that a browser shows at once.
        assert browser.evaluate("document.querySelectorAll('*').length") < 12_000
        assert f"{files + 4:,}" in browser.evaluate("document.querySelector('.tiles dd').textContent")
    assert {*browser.requested} == {page.as_uri()}
    assert all(ground > 200 if scheme == "light" else ground < 60 for (_, scheme), ground in grounds.items())
