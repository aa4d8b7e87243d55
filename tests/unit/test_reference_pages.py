"""What pages of docs/reference/ list is what the code has."""

from __future__ import annotations

import inspect
import re

import msgspec

import getm
from getm import errors
from getm.cli import help
from getm.cli.exit_status import exit_status
from getm.files.receipt_lines import ReceiptLine
from getm.manifests.fields import _NAMES
from getm.manifests.formats import FORMATS
from tests.support.documentation import ROOT

REFERENCE = ROOT / "docs" / "reference"
# What they say is said of their subclasses.
BASES = {errors.GetmError, errors.NetworkError, errors.IntegrityError}


def rows(page: str) -> list[list[str]]:
    """The cells of all tables, without the lines below their heads."""
    lines = [line for line in (REFERENCE / page).read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(page: str) -> set[str]:
    """What stands in code style in the first columns."""
    return {name for row in rows(page) for name in re.findall(r"`([^`]+)`", row[0])}


def test_every_error_has_its_exit_status_and_what_to_do() -> None:
    public = map(vars(getm.errors).get, getm.__all__)
    classes = {each for each in public if inspect.isclass(each) and issubclass(each, errors.GetmError)} - BASES
    said = {row[0].strip("`"): int(row[1]) for row in rows("errors.md") if re.fullmatch(r"`\w+`", row[0])}
    assert said == {each.__name__: exit_status(each("message")) for each in classes}


def test_every_exit_status_is_explained() -> None:
    listed = [row[0] for row in rows("errors.md") if re.fullmatch(r"[\d, ]+", row[0])]
    said = {int(status) for cell in listed for status in cell.split(",")}
    assert said == {int(status) for status in re.findall(r"^  (\d+) ", help.read_topic("exit-status"), re.MULTILINE)}


def test_every_field_of_a_receipt() -> None:
    assert names("receipt.md") == {field.name for field in msgspec.structs.fields(ReceiptLine)}


def test_every_format_and_key_of_a_list() -> None:
    keys = {name for of_field in _NAMES.values() for name in of_field}
    assert names("lists.md") >= {*FORMATS, *keys, "mirrors", "headers", "checksums"}


def test_every_variable() -> None:
    topic = re.findall(r"^  (?!  )(.+)$", help.read_topic("environment"), re.MULTILINE)
    known = {name for line in topic for name in re.findall(r"[A-Za-z_]{4,}", line.partition("=")[0])}
    said = {name for text in names("environment.md") for name in re.findall(r"[A-Za-z_]{4,}", text.partition("=")[0])}
    assert known <= said | {"GETM_RETRIES", "GETM_HEADER"}
