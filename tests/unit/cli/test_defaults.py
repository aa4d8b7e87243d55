"""Defaults of options: the command line before variables before the file, and what is wrong is refused by its place."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from getm.cli import defaults, ls, verify
from getm.cli.options import build_parser
from getm.cli.session_options import session_parser
from getm.errors import InvalidInput

URL = "http://127.0.0.1:9/x"


def parsed(*arguments: str, config: str | None = None, folder: Path, **variables: str) -> argparse.Namespace:
    given = [URL, *arguments]
    if config is not None:
        path = folder / "getm.toml"
        path.write_text(config)
        given += ["--config", str(path)]
    return defaults.parse(build_parser(), given, {"XDG_CONFIG_HOME": str(folder / "none"), **variables})


@pytest.mark.parametrize("in_file", (None, "limit-rate = '1K'\n"))
@pytest.mark.parametrize("in_variable", (None, "2K"))
@pytest.mark.parametrize("on_command_line", (None, "3K"))
def test_which_one_counts(
    in_file: str | None, in_variable: str | None, on_command_line: str | None, tmp_path: Path
) -> None:
    arguments = ["--limit-rate", on_command_line] if on_command_line else []
    variables = {"GETM_LIMIT_RATE": in_variable} if in_variable else {}
    options = parsed(*arguments, config=in_file, folder=tmp_path, **variables)
    expected = 3 if on_command_line else 2 if in_variable else 1 if in_file else None
    assert options.limit_rate == (expected and expected * 1024)


def test_every_kind_of_option(tmp_path: Path) -> None:
    home = str(Path("~/ca.pem").expanduser())
    Path(home).touch()
    config = """
        # Comments, and keys in any order.
        strict = true
        retries = 2
        timeout = 1.5
        jobs = "auto"
        progress = "plain"
        verbose = 2
        ipv6 = true
        dir = "data"
        cacert = "~/ca.pem"
        resolve = ["a.test:80:127.0.0.1", "b.test:80:127.0.0.1"]
        header = ["A: 1", "B: 2"]
    """
    options = parsed("--resolve", "c.test:80:127.0.0.1", config=config, folder=tmp_path, GETM_HEADER="C: 3\nb: 4")
    assert (options.strict, options.retries, options.timeout, options.jobs) == (True, 2, 1.5, "auto")
    assert (options.progress, options.verbose, options.ip_version, options.dir) == ("plain", 2, 6, "data")
    assert options.cacert == home
    assert options.resolve == [f"{name}.test:80:127.0.0.1" for name in "abc"]
    assert options.header == [("A", "1"), ("C", "3"), ("b", "4")]


def test_headers_of_one_name_come_from_the_first_place_that_has_it(tmp_path: Path) -> None:
    config = "header = ['A: file', 'B: file', 'C: file', 'C: file too']\n"
    options = parsed("-H", "a: line", "-H", "a: line too", config=config, folder=tmp_path, GETM_HEADER="B: variable")
    assert options.header == [
        ("C", "file"),
        ("C", "file too"),
        ("B", "variable"),
        ("a", "line"),
        ("a", "line too"),
    ]


def test_what_is_on_in_the_file_is_off_by_a_variable(tmp_path: Path) -> None:
    config = "strict = true\nverbose = 2\nipv4 = true\n"
    options = parsed(config=config, folder=tmp_path, GETM_STRICT="0", GETM_VERBOSE="no", GETM_IPV6="0", GETM_DIR="")
    assert (options.strict, options.verbose, options.ip_version, options.dir) == (False, 0, 4, None)
    assert parsed("-6", config=config, folder=tmp_path).ip_version == 6
    assert parsed(config=config, folder=tmp_path, GETM_IPV4="0").ip_version is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("\nretires = 2", ":2: there is no option 'retires'; did you mean 'retries'?"),
        ("limit_rate = 2", ":1: there is no option 'limit_rate'; did you mean 'limit-rate'?"),
        ("zzz = 1", ":1: there is no option 'zzz'; see getm --help"),
        ("checksum = 'md5:SECRET'", ":1: checksum says what to do, which has no default"),
        ("config = 'x'", ":1: config says what to do"),
        ("dry-run = true", ":1: dry-run says what to do"),
        ("strict = true\n\nlimit-rate = 'fast'\n", ":3: argument --limit-rate: must be an amount of bytes"),
        ("jobs = 0", ":1: argument -j/--jobs: must be a number from 1"),
        ("jobs = [1, 2]", ":1: jobs has one value"),
        ("jobs = true", ":1: jobs is a text or a number"),
        ("header = []\ndir = []", ":2: dir has one value"),
        ("dir = 2020-01-01", ":1: dir is a text or a number"),
        ("strict = 'yes'", ":1: strict is true or false"),
        ("strict = -1", ":1: strict is true or false"),
        ("[download]\nstrict = true", ":1: there is no option 'download'"),
        ("header = [\n 'A: b',\n 'SECRET',\n]\n", ":4: argument -H/--header: expected a header as 'NAME: VALUE'"),
        ("strict = true\nstrict = false", ":2: this is no TOML (Cannot overwrite a value"),
        ("strict = [", ":1: this is no TOML"),
    ],
)
def test_what_is_wrong_in_a_file(config: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as raised:
        parsed(config=config, folder=tmp_path)
    assert f"getm.toml{words}" in raised.value.message
    assert "SECRET" not in raised.value.message


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("GETM_LIMIT_RATE", "fast", "GETM_LIMIT_RATE: argument --limit-rate: must be an amount"),
        ("GETM_STRICT", "maybe", "GETM_STRICT: expected 1 or 0, got 'maybe'"),
        ("GETM_HEADER", "SECRET", "GETM_HEADER: argument -H/--header: expected a header"),
        ("GETM_CONFIG", "/nowhere", "The configuration /nowhere cannot be read: No such file"),
    ],
)
def test_what_is_wrong_in_a_variable(variable: str, value: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as raised:
        parsed(folder=tmp_path, **{variable: value})
    assert words in raised.value.message and "SECRET" not in raised.value.message


def test_variables_that_are_none_of_options(tmp_path: Path) -> None:
    others = dict.fromkeys(defaults.OTHER_VARIABLES - {"GETM_CONFIG"}, "x")
    options = parsed(folder=tmp_path, GETM_RETIRES="2", GETM_MANIFEST="x", **others)
    assert options.unknown_variables == ["GETM_RETIRES", "GETM_MANIFEST"]
    assert (options.retries, options.manifest) == (5, None)


def test_the_file_that_a_variable_names(tmp_path: Path) -> None:
    named, given = tmp_path / "named.toml", tmp_path / "given.toml"
    named.write_text("retries = 1")
    given.write_text("retries = 2")
    environment = {"GETM_CONFIG": str(named)}
    assert defaults.parse(build_parser(), [URL], environment).retries == 1
    for arguments in (["--config", str(given)], [f"--config={given}"]):
        assert defaults.parse(build_parser(), [*arguments, URL], environment).retries == 2
    with pytest.raises(InvalidInput, match="expected one argument"):
        defaults.parse(build_parser(), ["--config"], {})


# Which file ----------------------------------------------------------------------------------------------------------


def own_config(folder: Path, text: str = "retries = 7\n") -> str:
    """The user's configuration in that folder; the folder."""
    path = folder / "getm" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return str(folder)


def retries(*arguments: str, **variables: str) -> int:
    options = defaults.parse(build_parser(), [URL, *arguments], variables)
    found: int = options.retries
    return found


def test_the_users_own_file_and_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = own_config(tmp_path / "home" / ".config").removesuffix("/.config")
    monkeypatch.setenv("HOME", home)
    assert retries() == retries(XDG_CONFIG_HOME="") == retries(XDG_CONFIG_HOME="relative") == 7
    xdg = own_config(tmp_path / "xdg", "retries = 8\n")
    assert retries(XDG_CONFIG_HOME=xdg) == 8 and retries(XDG_CONFIG_HOME=str(tmp_path)) == 5
    (tmp_path / "named").write_text("retries = 9\n")
    named = str(tmp_path / "named")
    assert retries(XDG_CONFIG_HOME=xdg, GETM_CONFIG=named) == retries("--config", named, GETM_CONFIG="other") == 9
    assert retries("--no-config") == retries("--no-config", GETM_CONFIG=named) == 5
    assert retries(GETM_CONFIG="/dev/null") == 5
    with pytest.raises(InvalidInput, match="leave one of them out"):
        retries("--no-config", "--config", named)
    with pytest.raises(InvalidInput, match="cannot be read"):
        retries("--config", str(tmp_path / "missing"))
    (tmp_path / "xdg" / "getm" / "config.toml").write_text("retry = 7\n")
    with pytest.raises(InvalidInput, match=r"config\.toml:1: there is no option 'retry'; did you mean 'retries'\?"):
        retries(XDG_CONFIG_HOME=xdg)


def test_other_commands_have_the_defaults_of_requests(tmp_path: Path) -> None:
    text = "retries = 7\nreceipt = 'r'\nlimit-rate = '1K'\nbearer = ['h=a', 'b']\nstrict = true\n"
    variables = {"XDG_CONFIG_HOME": own_config(tmp_path, text), "GETM_HEADER": "A: 1", "GETM_JOBS": "3"}
    arguments = ["--receipt", "x", "--repair"]
    options = defaults.parse(verify.build_parser(), arguments, variables, only=session_parser())
    assert (options.retries, options.limit_rate, options.receipt, options.jobs) == (7, 1024, ["x"], None)
    assert options.bearer == [("h", "a"), ("", "b")] and options.header == [("A", "1")]
    # One that this command does not have is known all the same.
    options = defaults.parse(ls.build_parser(), ["s3://bucket/"], variables, only=session_parser())
    assert (options.retries, options.bearer) == (7, [("h", "a"), ("", "b")])
    with pytest.raises(InvalidInput, match="there is no option 'jbos'; did you mean 'jobs'"):
        (tmp_path / "getm" / "config.toml").write_text("jbos = 3\n")
        defaults.parse(ls.build_parser(), ["s3://bucket/"], variables, only=session_parser())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("header = ['A: 1']", True),
        ("header = ['@file']", False),
        ("bearer = ['h=@file', '@file']", False),
        ("bearer = 'h=token'", True),
        ("proxy = 'http://u:p@h'", True),
        ("proxy = 'http://h'\nretries = 3", False),
    ],
)
def test_whether_a_file_has_secrets(text: str, expected: bool, tmp_path: Path) -> None:
    for name in ("file",):
        (tmp_path / name).write_text("A: 1\n" if text.startswith("header") else "token\n")
    text = text.replace("@file", f"@{tmp_path}/file")
    options = defaults.parse(build_parser(), [URL], {"XDG_CONFIG_HOME": own_config(tmp_path / "own", text)})
    assert (options.exposed_config is not None) is expected
