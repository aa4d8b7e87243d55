"""URLs as they go on the wire, and where redirects lead, byte for byte."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.core.url import basic_credentials, follow, host_field, split_authority, split_url, validate_url
from getm.errors import InvalidInput

BASE = "http://u:p@h.test:81/a/b/c?q#f"


@pytest.mark.parametrize(
    "url",
    (
        *(
            "http://h",
            "https://h.test/",
            "HTTP://H.test:8080/a%2Fb;p=1?x=%20+&y=/../#"[:-1],
            "http://127.1/",
            "http://h:/",
        ),
        *("http://a_b.test/", "http://h./", "http://[::1]/", "http://[fe80::1%25eth0]:80/x", "http://[::1%lo]/"),
        *("http://u:p%40@h/a/./b/../c//d", "http://xn--strae-oqa.test/", f"http://{'a' * 63}.test/"),
    ),
)
def test_what_can_be_sent_stays_as_it_is(url: str) -> None:
    assert validate_url(url) == url


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        # UTS 46 without its transitional mapping, as curl and browsers do; IDNA 2003 made "strasse" of it.
        ("straße.test", "xn--strae-oqa.test"),
        ("STRASSE.bücher.test", "strasse.xn--bcher-kva.test"),
        ("faß.de", "xn--fa-hia.de"),
        ("βόλος.test", "xn--nxasmm1c.test"),
        ("日本語。test", "xn--wgv71a119e.test"),
        ("a_b.bücher.test", "a_b.xn--bcher-kva.test"),
        ("b%C3%BCcher.test", "xn--bcher-kva.test"),
        ("bücher.test.", "xn--bcher-kva.test."),
        ("%61.test", "a.test"),
    ],
)
def test_case_30_names_go_out_by_idna_2008(name: str, sent: str) -> None:
    assert validate_url(f"http://{name}/ü?ß") == f"http://{sent}/%C3%BC?%C3%9F"
    assert validate_url(f"https://ü:ß@{name}:8443") == f"https://%C3%BC:%C3%9F@{sent}:8443"


@pytest.mark.parametrize(
    "url",
    (
        *("http://a..b/", "http://.h/", f"http://{'a' * 64}.test/", f"http://{'a.' * 130}test/", "http://ü..test/"),
        *("http://h\\x/", "http://h x/", "http://%ff/", "http://h%2Fx/", "http://h%40x/", "http://-ü-.test/"),
        *(
            "http://☃\u200d.test/",
            "http://h\ud800/",
            "http://h/\udce9",
            "http://[::1/",
            "http://[::g]/",
            "http://h:99999/",
        ),
    ),
)
def test_case_30_what_is_no_name_is_refused_before_any_request(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate_url(url)
    str(caught.value).encode("utf-8", "backslashreplace")


@given(st.text())
def test_a_url_is_made_or_refused_and_made_once(text: str) -> None:
    for url in (text, f"http://{text}", f"http://h/{text}", f"http://{text}@h/"):
        try:
            sent = validate_url(url)
        except InvalidInput:
            continue
        assert sent.isascii() and validate_url(sent) == sent


def test_case_29_a_zone_is_no_part_of_the_host_field() -> None:
    assert host_field("[fe80::1%25eth0]:80") == "[fe80::1]:80"
    assert host_field("[::1%lo]") == "[::1]"
    for host in ("h.test:80", "[::1]", "[::1]:80", "h"):
        assert host_field(host) == host


@pytest.mark.parametrize(
    ("location", "target"),
    [
        (b"/f;?sig=1", "http://u:p@h.test:81/f;?sig=1"),
        (b"/f\xe9", "http://u:p@h.test:81/f%E9"),
        ("/fé".encode(), "http://u:p@h.test:81/f%C3%A9"),
        (b'/a b"<>\\^`{|}%2f%zz', 'http://u:p@h.test:81/a%20b"<>\\^`{|}%2f%zz'),
        (b"/?a=b;c=d&e=/../", "http://u:p@h.test:81/?a=b;c=d&e=/../"),
        (b"/x/../y/./z", "http://u:p@h.test:81/x/../y/./z"),
        (b" /x\t", "http://u:p@h.test:81/x"),
        (b"/x#frag", "http://u:p@h.test:81/x"),
        (b"#frag", "http://u:p@h.test:81/a/b/c?q"),
        (b"?z=1", "http://u:p@h.test:81/a/b/c?z=1"),
        (b"d", "http://u:p@h.test:81/a/b/d"),
        (b"d/", "http://u:p@h.test:81/a/b/d/"),
        (b"../d?x=/../", "http://u:p@h.test:81/a/d?x=/../"),
        (b"../../../../d", "http://u:p@h.test:81/d"),
        (b"./", "http://u:p@h.test:81/a/b/"),
        (b"..", "http://u:p@h.test:81/a/"),
        (b";x", "http://u:p@h.test:81/a/b/;x"),
        (b"//other.test/x", "http://other.test/x"),
        (b"//h.test:81/x", "http://u:p@h.test:81/x"),
        (b"http://h.test:81/x", "http://u:p@h.test:81/x"),
        (b"HTTP://H.test:81/x", "HTTP://u:p@H.test:81/x"),
        (b"http://h.test:81?x", "http://u:p@h.test:81?x"),
        (b"http://me@h.test:81/x", "http://me@h.test:81/x"),
        (b"http://h.test/x", "http://h.test/x"),
        (b"https://h.test:81/x", "https://h.test:81/x"),
        ("http://bücher.test/ü".encode(), "http://xn--bcher-kva.test/%C3%BC"),
        (b"http://other.test/a/../b;?\xff", "http://other.test/a/../b;?%FF"),
    ],
)
def test_cases_31_32_where_a_location_leads(location: bytes, target: str) -> None:
    assert follow(BASE, location) == target


def test_relative_locations_from_a_url_without_a_path() -> None:
    assert follow("http://h.test", b"x") == "http://h.test/x"
    assert follow("http://h.test?q", b"?r") == "http://h.test/?r"
    assert follow("https://h.test", b"//x.test") == "https://x.test"


@pytest.mark.parametrize(
    "location", (b"file:///etc/passwd", b"http://", b"http://[", b"ftp://h/", b"x:y", b"http://a..b/")
)
def test_a_location_that_leads_nowhere_is_refused(location: bytes) -> None:
    with pytest.raises(InvalidInput):
        follow(BASE, location)


@given(st.binary(max_size=50))
def test_any_location_leads_somewhere_or_is_refused(location: bytes) -> None:
    try:
        target = follow(BASE, location)
    except InvalidInput:
        return
    assert validate_url(target) == target
    split_url(target)


@pytest.mark.parametrize(
    ("userinfo", "sent"),
    [
        ("me:pass%20word", b"me:pass word"),
        ("me", b"me:"),
        ("m%C3%A9:p", "mé:p".encode("latin-1")),
        ("%E2%82%AC:%C3%A9", "€:é".encode()),
        ("m%E9:p", b"m\xe9:p"),
        (":", b":"),
    ],
)
def test_case_35_userinfo_beyond_latin_1_goes_out_as_utf_8(userinfo: str, sent: bytes) -> None:
    assert basic_credentials(userinfo) == "Basic " + base64.b64encode(sent).decode()


def test_an_origin_has_its_parts() -> None:
    assert split_authority("http://a@b:c@h:1") == ("http", "a@b:c", "h:1")
    assert split_authority("https://[::1]") == ("https", "", "[::1]")
