"""Every parameter of every public function: what is refused before any request, and what its docstring says."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import inspect
import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import getm
from getm.client.pool import EnginePool

URL = "http://127.0.0.1:9/object"
ENTRIES = [URL]

SYNC_AND_ASYNC = {
    "iter_content": "aiter_content",
    "iter_content_unordered": "aiter_content_unordered",
    "list_objects": "alist_objects",
    "download": "adownload",
    "download_all": "adownload_all",
    "read": "aread",
    "read_ranges": "aread_ranges",
}
TRANSFERS = ["urlopen", "open", "readinto", "shared", *SYNC_AND_ASYNC, *SYNC_AND_ASYNC.values()]
CLASSES = ["Session", "Timeout", "Retries", "Entry"]
FUNCTIONS = [*TRANSFERS, "checksum", "close", "read_list"]

NO_BOOL: list[Any] = [1, 0, None, "yes", "", [], math.nan, np.int64(1)]
NO_COUNT: list[Any] = [-1, True, np.True_, 1.5, np.float64(1.5), "1", b"1", [1], math.nan, math.inf, 2**80, object()]
NO_SECONDS: list[Any] = [0, -1, True, "5", b"5", [5], math.nan, math.inf, np.float64("nan"), 1j, 10**400, object()]
NO_PATH: list[Any] = [5, True, b"name", ["name"], "a\0b", "a\udcff\ud800", object()]
NO_FUNCTION: list[Any] = [5, True, "print", [print]]
NO_HEADERS: list[Any] = [
    5,
    True,
    "A: b",
    b"A: b",
    [5],
    ["A: b"],
    [("a",)],
    [("a", 1)],
    {"a": 1},
    {1: "a"},
    {"a b": "c"},
]
NO_CHECKSUM: list[Any] = [[], {}, 5, True, b"md5:00", [5], [None], "md5", "md5:xyz", "md6:00", ["auto"], math.nan]
NO_URL: list[Any] = [None, 5, True, b"http://h/", "ftp://h/", "h", "", object()]
NO_RETRIES: list[Any] = [value for value in NO_COUNT if value != 0]

NO_SPAN: list[Any] = [
    5,
    (1,),
    (0, 1, 2),
    (2, 1),
    (-5, 3),
    ("0", 1),
    (0.0, 1),
    (None, 1),
    (0, 2**63),
    (True, 2),
    (0, True),
]

# For each parameter values that cannot be used: wrong types, and numbers out of range.
WRONG: dict[str, list[Any]] = {
    "algorithm": [5, None, True, b"md5", "md6", ""],
    "attempts": NO_RETRIES,
    "auth": [
        *(5, True, b"token", "", "two words", "a\nb", ["a"], ("a",), ("a", "b", "c"), ("a:b", "c"), ("a", 5)),
        *({"h": 5}, {"h": ""}, {5: "token"}, {"http://h/": "token"}, {"h/path": "token"}, {"h:0": "x"}, {"h:x": "x"}),
    ],
    "base_s": [value for value in NO_SECONDS if value != 0],
    "base_url": [5, b"http://h/", "ftp://h/"],
    "buffer": [],
    "cacert": [*NO_PATH, "/missing/ca.pem"],
    "cap_s": [value for value in NO_SECONDS if value != 0],
    "cert": [*NO_PATH, "/missing/cert.pem"],
    "checksum": NO_CHECKSUM,
    "chunk_size": [0, *NO_COUNT],
    "columns": [5, "url=link", b"x", {"url": 1}, {1: "url"}],
    "concurrency": [0, 257, *NO_COUNT],
    "connect_s": NO_SECONDS,
    "continue_after_error": NO_BOOL,
    "directory": NO_PATH,
    "cookies": [path for path in [*NO_PATH, "/missing/cookies.txt"] if path is not None],
    "dry_run": NO_BOOL,
    "encoding": [5, "utf-9", b"utf-8", "utf-8"],
    "entries": [URL, URL.encode(), 5, None, getm.Entry(URL), {URL: "name"}],
    "errors": [5, "lax", b"strict", "strict"],
    "exclude": [5, True, b"*.bam", [5], [b"x"], [""], ""],
    "executor": [5, True, "dask", object(), concurrent.futures.Executor],
    "expand": [1, 0, "yes", [], math.nan],
    "floor_bytes_s": NO_SECONDS,
    "floor_window_s": [None, *NO_SECONDS],
    "fsync": NO_BOOL,
    "format": [5, b"json", "jason", True],
    "headers": NO_HEADERS,
    "include": [5, True, b"*.bam", [5], [b"x"], [""], ""],
    "insecure": NO_BOOL,
    "interface": [5, True, b"lo", "", "none0", "x" * 16, "192.0.2.77"],
    "ip_version": [0, 5, True, "4", 4.5, [4]],
    "jobs": [0, None, *NO_COUNT],
    "key": [*NO_PATH, "/missing/key.pem"],
    "key_password": [5, True, b"x", "without a certificate"],
    "length": NO_COUNT,
    "limit_rate": [0.5, *NO_SECONDS],
    "max_gap": [None, *NO_COUNT],
    "max_memory": [0, 65535, None, *NO_COUNT],
    "mirrors": [None, 5, True, URL, b"http://h/", [5], [b"http://h/"], ["ftp://h/"]],
    "mode": ["w", "wb", "a", "x", "r+", "rb+", "", "b", None, 5, b"rb"],
    "name": [None, 5, b"s3://bucket/", True],
    "netrc": [None, 5, b"name", ["name"], "a\0b", "/missing/netrc"],
    "newline": [5, "x", b"", "\n"],
    "existing": [None, True, 5, "skip", ["keep"], b"keep"],
    "no_proxy": [5, True, b"h.test", ["h.test", 5]],
    "offset": [None, *(value for value in NO_COUNT if value != -1)],
    "once": NO_BOOL,
    "on_event": NO_FUNCTION,
    "on_progress": NO_FUNCTION,
    "path": NO_PATH,
    "per_host": [0, None, *NO_COUNT],
    "place": [5, b"line 1", True],
    "processes": [0, None, *NO_COUNT],
    "proxy": [5, True, b"http://h.test", "ftp://h.test", "socks4://h.test", "http://h.test:port", "http://"],
    "recursive": NO_BOOL,
    "ranged_from": [None, *NO_COUNT],
    "receipt": [path for path in NO_PATH if path is not None],
    "remote_time": NO_BOOL,
    "reserved": [5, "r", ["r"]],
    "resolve": [
        *(5, True, "h:80:127.0.0.1", ["h:80:127.0.0.1"], {5: "127.0.0.1"}, {"h": "127.0.0.1"}, {"h:x": "127.0.0.1"}),
        *({"h:0": "127.0.0.1"}, {"h:65536": "::1"}, {"h:80": "h"}, {"h:80": []}, {"h:80": 5}, {"h:80": ["::1", 5]}),
        *({"127.0.0.1:80": "127.0.0.2"}, {"[::1]:80": "::2"}, {"a b:80": "::1"}, {":80": "::1"}),
    ],
    "resume": NO_BOOL,
    "retries": NO_RETRIES,
    "session_headers": NO_BOOL,
    "size": NO_COUNT,
    "source": [5, None, object(), 1.5, ["a"], "a\0b"],
    "spans": [None, 5, "ab", b"ab", {(0, 1): 2}, *([each] for each in NO_SPAN)],
    "stall_s": NO_SECONDS,
    "statuses": [503, None, True, "503", b"\1", [99], [1000], [503.0], ["503"], [True], {"a": 1}],
    "strict": NO_BOOL,
    "tail_s": NO_SECONDS,
    "timeout": [*NO_SECONDS, "", "defaults"],
    "total_s": NO_SECONDS,
    "trusted_path": NO_BOOL,
    "unix_socket": [path for path in [*NO_PATH, "x" * 108] if path is not None],
    "url": NO_URL,
    "warn_unverified": NO_BOOL,
}
GOOD = {
    "url": URL,
    "entries": ENTRIES,
    "name": f"{URL}/",
    "source": b"",
    "path": "no-such-file",
    "spans": [(0, 1)],
    "buffer": bytearray(),
}


def parameters(name: str) -> list[inspect.Parameter]:
    return list(inspect.signature(getattr(getm, name)).parameters.values())


def call(name: str, /, **arguments: Any) -> object:
    result = getattr(getm, name)(**arguments)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def required(name: str) -> dict[str, Any]:
    return {each.name: GOOD[each.name] for each in parameters(name) if each.default is inspect.Parameter.empty}


@pytest.fixture(autouse=True)
def no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(*_: object, **__: object) -> None:
        pytest.fail("it asked for an engine")

    monkeypatch.setattr(EnginePool, "acquire", acquire)


@pytest.mark.parametrize(
    ("name", "parameter"), [(name, each.name) for name in [*FUNCTIONS, *CLASSES] for each in parameters(name)]
)
def test_case_46_a_wrong_type_or_value_is_refused_before_any_request(name: str, parameter: str) -> None:
    taken = []
    # An entry without a checksum is as good as others: the first two are for calls.
    for value in WRONG[parameter][2 if (name, parameter) == ("Entry", "checksum") else 0 :]:
        try:
            call(name, **{**required(name), parameter: value})
        except getm.InvalidInput as error:
            assert len(str(error)) < 400
        else:
            taken.append(value)
    assert taken == []


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES])
def test_case_11_an_unknown_keyword_is_a_type_error_before_any_request(name: str) -> None:
    for unknown in ("position", "chekcsum", "session", "_"):
        with pytest.raises(TypeError, match=f"(?i)unexpected keyword argument '{unknown}'"):
            call(name, **required(name), **{unknown: "md5:00000000000000000000000000000000"})


@pytest.mark.parametrize("name", ["Session", *TRANSFERS])
def test_case_44_refusals_name_the_parameter_as_it_was_given(name: str) -> None:
    for parameter in (
        "concurrency",
        "timeout",
        "retries",
        "jobs",
        "per_host",
        "limit_rate",
        "max_memory",
        "chunk_size",
    ):
        if parameter in inspect.signature(getattr(getm, name)).parameters:
            with pytest.raises(getm.InvalidInput, match=f"^{parameter} must be "):
                call(name, **{**required(name), parameter: -1})


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES])
def test_each_parameter_stands_in_the_docstring(name: str) -> None:
    text = inspect.getdoc(getattr(getm, name))
    assert text is not None
    assert "\n" not in text.split("\n\n")[0], "the first paragraph is one line"
    sections = dict(zip((found := re.split(r"^(\w+):$", text, flags=re.MULTILINE))[1::2], found[2::2], strict=True))
    listed = re.findall(r"^ {4}(\w+): \S", sections.get("Args", ""), re.MULTILINE)
    assert listed == [each.name for each in parameters(name)]
    assert "Example" in sections and ">>> " in sections["Example"]
    if name in TRANSFERS:
        assert {"Args", "Returns", "Raises"} <= set(sections)
        # Nothing is hidden behind `**more`.
        kinds = {each.kind for each in parameters(name)}
        assert kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize(("name", "other"), SYNC_AND_ASYNC.items())
def test_the_sync_and_the_async_api_take_the_same(name: str, other: str) -> None:
    def described(name: str) -> list[tuple[str, object, object]]:
        return [(each.name, each.default, each.annotation) for each in parameters(name)]

    assert described(name) == described(other)


@pytest.mark.parametrize("name", TRANSFERS)
def test_a_function_of_the_module_is_the_method_of_a_session(name: str) -> None:
    function, method = getattr(getm, name), getattr(getm.Session, name)
    assert function.__func__ is method
    assert isinstance(function.__self__, getm.Session)
    assert function.__self__ is getattr(getm, "read").__self__  # noqa: B009  # checkers of types see a function


def test_case_61_functions_can_be_pickled_and_sessions_say_what_to_do() -> None:
    for name in TRANSFERS:
        assert pickle.loads(pickle.dumps(getattr(getm, name))) == getattr(getm, name)
    session = getm.Session()
    refuse: list[Callable[[Any], object]] = [pickle.dumps, copy.copy, copy.deepcopy]
    for each in refuse:
        with pytest.raises(TypeError, match=r"make one in each process, or use the functions of the module"):
            each(session)
    with pytest.raises(TypeError, match="make one in each process"):
        pickle.dumps(session.read)


def test_case_61_timeout_none_is_no_limit_and_the_default_is_the_sessions() -> None:
    session = getm.Session(timeout=getm.Timeout(1, 2, 3))

    def asked(timeout: Any) -> tuple[float | None, float | None, float | None, float | None]:
        request = session._open_request(URL, 1, None, timeout, "auto", False, None)
        return request.connect_s, request.stall_s, request.total_s, request.floor_bytes_s

    assert asked("default") == (1, 2, 3, 1024)
    assert asked(None) == (None, None, None, None)
    assert asked(5) == (5, 5, 3, 1024)
    assert asked(getm.Timeout()) == (30, 60, None, 1024)
    unlimited = getm.Session(timeout=None)
    request = unlimited._open_request(URL, 1, None, "default", "auto", False, None)
    assert (request.connect_s, request.stall_s, request.total_s) == (None, None, None)


def test_a_single_url_for_many_is_refused_with_advice() -> None:
    with pytest.raises(getm.InvalidInput, match="for a single one use download, or put it into a list"):
        getm.download_all(URL)
    with pytest.raises(getm.InvalidInput, match="not a dict"):
        getm.adownload_all({URL: "name"})


def test_case_54_plain_values_go_to_the_engine() -> None:
    class Text(str):
        def __str__(self) -> str:
            return "another text"

    memory: Any = np.int64(2**20)
    session = getm.Session(headers={"A": Text("b")}, max_memory=memory)
    arguments: list[Any] = [np.int64(3), [(Text("C"), np.str_("d"))], np.float64(5), Text("md5:" + "0" * 32), False]
    arguments += [np.int16(4), [Text(URL), np.str_(URL)], np.int64(7)]
    request = session._open_request(Text(URL), *arguments)
    assert request.url == URL and request.mirrors == (URL, URL) and request.concurrency == 3
    assert request.headers == (("A", "b"), ("C", "d")) and request.checksums == ("md5:" + "0" * 32,)
    assert request.connect_s == 5 and request.retries == getm.Retries(4) and request.ranged_from == 7
    plain = [request.url, *request.mirrors, *(text for pair in request.headers for text in pair)]
    assert {type(text) for text in plain} == {str}
    assert [type(value) for value in (request.concurrency, request.connect_s, request.ranged_from)] == [int, float, int]
