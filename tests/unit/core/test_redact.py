"""No secret of a URL survives `redact`: not from the userinfo, the query or the fragment, whatever surrounds it."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from getm.core.redact import redact, redact_text

# RFC 3986: what may stand in each place without being percent-encoded, and "%".
UNRESERVED = string.ascii_letters + string.digits + "-._~"
USERINFO = UNRESERVED + "!$&'()*+,;=:%"
QUERY = USERINFO + "@/?"

# Long enough not to be part of a host or path by chance; upper case, which no host has.
secrets = st.text("ABCDEFGHJKLMNPQRSTUVWXYZ", min_size=16, max_size=24)
hosts = st.sampled_from(["example.test", "192.0.2.1", "[2001:db8::1]", "a-b.c.d", "xn--bcher-kva.test"])
ports = st.just("") | st.integers(1, 65535).map(":{}".format)
paths = st.just("") | st.text(UNRESERVED + "%@+/", max_size=20).map("/{}".format)
schemes = st.sampled_from(["http", "https", "s3", "ftp"])


@given(schemes, hosts, ports, paths, secrets, st.text(USERINFO, max_size=8), st.text(QUERY, max_size=8))
def test_a_secret_anywhere_but_in_host_and_path_is_gone(
    scheme: str, host: str, port: str, path: str, secret: str, user_noise: str, query_noise: str
) -> None:
    base = f"{scheme}://{host}{port}{path}"
    for userinfo in ("", f"{user_noise}{secret}@", f"{secret}:@", f"user:{secret}{user_noise}@"):
        for rest in (
            "",
            f"?{query_noise}{secret}",
            f"#{query_noise}{secret}",
            f"?a={secret}&b=@/:#{secret}@x/{secret}",
        ):
            assert redact(f"{scheme}://{userinfo}{host}{port}{path}{rest}") == base


@given(secrets, st.text(QUERY, max_size=8), st.sampled_from(["99999", "-1", "x", "8 0"]))
def test_a_secret_is_gone_from_a_url_that_cannot_be_read(secret: str, noise: str, port: str) -> None:
    for text in (
        f"https://user:{secret}@example.test:{port}/path?{noise}{secret}#{secret}",
        f"https://{secret}@[2001:db8::1/path?{noise}{secret}",
        f"https://example.test:{port}/path#{noise}{secret}",
    ):
        assert secret not in redact(text)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Lu"]), max_size=60), secrets, st.sampled_from("?#"))
def test_any_text_comes_back_without_what_follows_a_question_mark_or_hash(text: str, secret: str, mark: str) -> None:
    redacted = redact(f"{text}{mark}{secret}")
    assert secret not in redacted
    assert "?" not in redacted and "#" not in redacted


PLAIN = {
    "": "",
    "https://example.test": "https://example.test",
    "https://EXAMPLE.test/Path": "https://example.test/Path",
    "https://example.test/a%2Fb/@scope/c+d": "https://example.test/a%2Fb/@scope/c+d",
    "http://user:p@ss@example.test/path": "http://example.test/path",
    "http://@example.test:8080/": "http://example.test:8080/",
    "http://[::1]:80/x?y": "http://[::1]:80/x",
    "data/reads.bam": "data/reads.bam",
    "/absolute/path?sig=x": "/absolute/path",
}


def test_what_is_no_secret_stays() -> None:
    assert {url: redact(url) for url in PLAIN} == PLAIN
    assert {redact(url) for url in PLAIN.values()} == set(PLAIN.values())


def test_a_secret_is_gone_from_a_url_that_lacks_its_slashes() -> None:
    leaks = [redact(f"{prefix}user:HUNTER@example.test/path") for prefix in ("", "https:", "https:/", "https:///")]
    assert [text for text in leaks if "HUNTER" in text] == []


def test_a_password_with_an_unencoded_mark_is_gone_whole() -> None:
    leaks = [redact(f"https://user:HUNTER{mark}2@example.test/path") for mark in "?#"]
    assert [text for text in leaks if "HUNTER" in text] == []


def test_urls_within_text() -> None:
    assert redact_text("got 'https://u:p@h/a?sig=x#y', not http://h/b?c") == "got 'https://h/a', not http://h/b"
    assert redact_text("is this one? No: a?b=c") == "is this one? No: a?b=c"


def test_a_container_before_the_host_of_its_account_is_no_secret() -> None:
    assert redact("abfss://c@lab.dfs.core.windows.net/x?SECRET") == "abfss://c@lab.dfs.core.windows.net/x"
    assert redact("az://user:SECRET@lab.blob.core.windows.net/x") == "az://lab.blob.core.windows.net/x"


def test_names_are_shown_whole() -> None:
    """What follows a colon in a name is neither a port nor a password."""
    for name in ("drs://drs.42:a/b", "drs://dg.4503:dg.4503/0123", "doi:10.5281/zenodo.1/a b.csv", "drs://h/a%2Fb"):
        assert redact(name) == name
    assert redact("drs://drs.42:a/b?x=SECRET#y") == "drs://drs.42:a/b"
    assert "SECRET" not in redact("s3://me:SECRET@bucket/key")
