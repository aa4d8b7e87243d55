"""Which proxy a URL is fetched through, as a table: variables, their cases, exemptions, and what cannot be used."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import getm
from getm.core.proxy import choose_proxy
from getm.errors import InvalidInput, MissingExtra

A, B = "http://a.test:1", "http://b.test:2"
HTTP, HTTPS = "http://data.example", "https://data.example"


def chosen(origin: str, **environment: str) -> str | None:
    proxy = choose_proxy(origin, environment)
    return None if proxy is None else proxy.url


@pytest.mark.parametrize(
    ("origin", "environment", "url"),
    [
        (HTTP, {}, None),
        (HTTP, {"http_proxy": A}, A),
        (HTTPS, {"http_proxy": A}, None),
        (HTTP, {"HTTP_PROXY": A}, A),
        (HTTP, {"http_proxy": A, "HTTP_PROXY": B}, A),
        (HTTPS, {"https_proxy": A, "HTTPS_PROXY": B}, A),
        (HTTP, {"http_proxy": "", "HTTP_PROXY": B}, None),
        (HTTP, {"http_proxy": "", "all_proxy": B}, None),
        (HTTP, {"HTTP_PROXY": "", "all_proxy": B}, B),
        (HTTP, {"all_proxy": A, "ALL_PROXY": B}, A),
        (HTTP, {"all_proxy": "", "ALL_PROXY": B}, None),
        (HTTPS, {"ALL_PROXY": B}, B),
        (HTTPS, {"https_proxy": A, "all_proxy": B}, A),
        (HTTP, {"http_proxy": "a.test:1"}, A),
        (HTTP, {"http_proxy": " http://a.test:1 "}, A),
        (HTTP, {"http_proxy": "https://a.test"}, "https://a.test"),
        (HTTP, {"http_proxy": "http://u:p@a.test:1/"}, "http://u:p@a.test:1/"),
    ],
)
def test_case_34_which_variable_counts(origin: str, environment: dict[str, str], url: str | None) -> None:
    assert chosen(origin, **environment) == url


def test_case_55_in_a_cgi_program_the_upper_case_variable_is_the_clients() -> None:
    assert chosen(HTTP, HTTP_PROXY=A, REQUEST_METHOD="GET") is None
    assert chosen(HTTP, HTTP_PROXY=A, REQUEST_METHOD="") is None
    assert chosen(HTTP, HTTP_PROXY=A, REQUEST_METHOD="GET", all_proxy=B) == B
    assert chosen(HTTP, http_proxy=A, REQUEST_METHOD="GET") == A
    assert chosen(HTTPS, HTTPS_PROXY=A, REQUEST_METHOD="GET") == A


@pytest.mark.parametrize(
    ("no_proxy", "exempt", "not_exempt"),
    [
        ("example.com", ["http://example.com", "http://a.example.com", "http://EXAMPLE.com."], ["http://example.org"]),
        ("example.com", [], ["http://badexample.com", "http://example.com.org"]),
        (".example.com", ["http://example.com", "http://a.b.example.com"], ["http://xexample.com"]),
        ("*.example.com", ["http://a.example.com"], ["http://example.org"]),
        ("*", ["http://a", "https://[::1]:5", "http://1.2.3.4"], []),
        ("a.test, b.test c.test", ["http://a.test", "http://b.test", "http://c.test"], ["http://d.test"]),
        (" , ,", [], ["http://a.test"]),
        ("a.test:8080", ["http://a.test:8080"], ["http://a.test", "http://a.test:81"]),
        ("a.test:443", ["https://a.test", "https://a.test:443"], ["http://a.test"]),
        ("127.0.0.0/8", ["http://127.0.0.1", "http://127.1.2.3:80"], ["http://128.0.0.1", "http://localhost"]),
        ("127.0.0.1/8", ["http://127.9.9.9"], []),
        ("127.0.0.1", ["http://127.0.0.1:99"], ["http://127.0.0.2", "http://1127.0.0.1.test"]),
        ("10.0.0.1:80", ["http://10.0.0.1"], ["http://10.0.0.1:81"]),
        ("::1", ["http://[::1]", "http://[::1]:8080", "http://[0:0::1]", "http://[::1%25lo]"], ["http://[::2]"]),
        ("[::1]", ["http://[::1]"], ["http://[::2]"]),
        ("[::1]:80", ["http://[::1]"], ["http://[::1]:81"]),
        ("fe80::/10", ["http://[fe80::1%25eth0]"], ["http://[::1]"]),
        ("1.2.3.4/99, b.test", ["http://b.test"], ["http://1.2.3.4"]),
        ("b\udce9.test", [], ["http://b.test"]),
    ],
)
def test_cases_34_55_which_hosts_are_exempt(no_proxy: str, exempt: list[str], not_exempt: list[str]) -> None:
    for origin in exempt:
        assert chosen(origin, all_proxy=A, no_proxy=no_proxy) is None, origin
        assert chosen(origin, all_proxy=A, NO_PROXY=no_proxy) is None, origin
        assert chosen(origin, all_proxy=A, no_proxy="", NO_PROXY=no_proxy) == A, origin
    for origin in not_exempt:
        assert chosen(origin, all_proxy=A, no_proxy=no_proxy) == A, origin


@pytest.mark.parametrize(
    "value",
    (
        *("socks4a://p.test:1080", "socks://p.test", "SOCKS4://p.test", "nonsense://p.test", "ftp://p.test"),
        *("http://", "https:///path", "http://p.test:99999", "http://p.test:port", "http://[::1", "://p.test", ":80"),
    ),
)
def test_cases_34_55_a_proxy_that_cannot_be_used_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidInput, match="all_proxy names"):
        choose_proxy(HTTP, {"all_proxy": value})
    # Nobody asks for it.
    assert choose_proxy(HTTP, {"all_proxy": value, "no_proxy": "*"}) is None


def test_case_34_a_proxy_is_told_without_its_secrets() -> None:
    proxy = choose_proxy(HTTP, {"HTTP_PROXY": "http://me:SECRET@p.test:3128/?SECRET"})
    assert str(proxy) == "the proxy p.test:3128 (from HTTP_PROXY)"
    with pytest.raises(InvalidInput) as caught:
        choose_proxy(HTTP, {"all_proxy": "socks4://me:SECRET@p.test"})
    assert "SECRET" not in str(caught.value) and "socks4://p.test" in str(caught.value)


any_text = st.text(st.characters() | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"]))


@given(any_text, any_text)
def test_case_2_whatever_the_variables_hold_a_proxy_is_found_or_refused(value: str, no_proxy: str) -> None:
    try:
        proxy = choose_proxy("http://[::1]:80", {"http_proxy": value, "no_proxy": no_proxy})
    except InvalidInput as error:
        error.message.encode()
    else:
        assert proxy is None or proxy.url.isascii()


def test_without_its_package_a_socks_proxy_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for call in (
        lambda: choose_proxy(HTTP, {"all_proxy": "socks5://p.test"}),
        lambda: getm.Session(proxy="socks5h://p"),
    ):
        with pytest.raises(MissingExtra, match=r'pip install "getm\[socks\]"'):
            call()
