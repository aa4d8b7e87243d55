"""What is shown of the content of an error: the code and the message of a vendor, and no secret."""

from __future__ import annotations

import json
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.core.error_content import ErrorContent, read_error_content

# 2024-01-01 00:01:00 UTC.
DUE_S = 1_704_067_260.0

S3_EXPIRED = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>AccessDenied</Code><Message>Request has expired</Message><X-Amz-Expires>60</X-Amz-Expires>\
<Expires>2024-01-01T00:01:00Z</Expires><ServerTime>2024-02-01T00:00:00Z</ServerTime><RequestId>R</RequestId>\
<HostId>SECRET</HostId></Error>"""
S3_TOKEN = b"""<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message>\
<Token-0>SECRET</Token-0></Error>"""
S3_SIGNATURE = b"""<?xml version="1.0" encoding="UTF-8"?><Error><Code>SignatureDoesNotMatch</Code><Message>The request \
signature we calculated does not match the signature you provided. Check your key and signing method.</Message>\
<AWSAccessKeyId>SECRET</AWSAccessKeyId><StringToSign>SECRET</StringToSign><SignatureProvided>SECRET</SignatureProvided>\
</Error>"""
GCS_EXPIRED = b"""<?xml version='1.0' encoding='UTF-8'?><Error><Code>ExpiredToken</Code><Message>Invalid argument.\
</Message><Details>The provided token has expired. Request signature expired at: 2024-01-01T00:01:00+00:00</Details>\
</Error>"""
_AZURE = """\ufeff<?xml version="1.0" encoding="utf-8"?><Error><Code>AuthenticationFailed</Code><Message>Server \
failed to authenticate the request. Make sure the value of Authorization header is formed correctly \
including the signature.
RequestId:2c25ad7c-a01e-0004
Time:2024-02-01T10:16:22.8096444Z</Message><AuthenticationErrorDetail>{}</AuthenticationErrorDetail></Error>"""
AZURE_EXPIRED = _AZURE.format(
    "Signature not valid in the specified time frame: Start [Sun, 31 Dec 2023 00:00:00 GMT] - Expiry "
    "[Mon, 01 Jan 2024 00:01:00 GMT] - Current [Thu, 01 Feb 2024 10:16:22 GMT]"
).encode()
AZURE_NO_START = _AZURE.format(
    "Signed expiry time [Mon, 01 Jan 2024 00:01:00 GMT] must be after signed start time [Thu, 01 Feb 2024 10:16:22 GMT]"
).encode()
AZURE_TOO_EARLY = _AZURE.format(
    "Signature not valid in the specified time frame: Start [Sun, 31 Dec 2023 00:00:00 GMT] - Expiry "
    "[Mon, 01 Jan 2024 00:01:00 GMT] - Current [Sat, 30 Dec 2023 23:59:00 GMT]"
).encode()
AZURE_WRONG = _AZURE.format("Signature did not match. String to sign used was SECRET").encode()

AZURE_SAYS = (
    "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly "
    "including the signature"
)
S3_SAYS = (
    "The request signature we calculated does not match the signature you provided. Check your key and signing method"
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (S3_EXPIRED, ErrorContent("AccessDenied", "Request has expired", True)),
        (S3_TOKEN, ErrorContent("ExpiredToken", "The provided token has expired", True)),
        (GCS_EXPIRED, ErrorContent("ExpiredToken", "Invalid argument", True)),
        (AZURE_EXPIRED, ErrorContent("AuthenticationFailed", AZURE_SAYS, True, DUE_S)),
        (AZURE_NO_START, ErrorContent("AuthenticationFailed", AZURE_SAYS, True, DUE_S)),
        (AZURE_TOO_EARLY, ErrorContent("AuthenticationFailed", AZURE_SAYS)),
        (AZURE_WRONG, ErrorContent("AuthenticationFailed", AZURE_SAYS)),
        (S3_SIGNATURE, ErrorContent("SignatureDoesNotMatch", S3_SAYS)),
        (b"<Error><Code>NoSuchKey</Code></Error>", ErrorContent("NoSuchKey")),
        (b"<Error><Message>a &lt;b&gt; &amp; c</Message></Error>", ErrorContent("", "a <b> & c")),
        (b"<ErrorResponse><Error><Code>A</Code><Message>b</Message></Error></ErrorResponse>", ErrorContent("A", "b")),
        (b'{"message": "Not here.", "code": "missing"}', ErrorContent("missing", "Not here")),
        (
            b'{"error": {"code": 403, "message": "No such project", "status": "PERMISSION_DENIED"}}',
            ErrorContent("PERMISSION_DENIED", "No such project"),
        ),
        (b'{"error": "invalid_token", "error_description": "It is old"}', ErrorContent("invalid_token", "It is old")),
        # RFC 9457.
        (
            b'{"type": "about:blank", "title": "Gone", "status": 410, "detail": "Archived"}',
            ErrorContent("", "Archived"),
        ),
        (b'{"message": ["a"], "code": {}}', ErrorContent()),
        (b'{"message": "cut', ErrorContent()),
        (b"[1]", ErrorContent()),
        (b"[" * 100_000, ErrorContent()),
        (b'{"a":' * 100_000, ErrorContent()),
        (b"<html><h1>Code</h1><Code>X</Code></html>", ErrorContent()),
        (b"\xff\xfe\x00", ErrorContent()),
        (b"", ErrorContent()),
    ],
)
def test_what_vendors_send(content: bytes, expected: ErrorContent) -> None:
    found = read_error_content(content)
    assert found == expected
    assert "SECRET" not in str(found)


def test_both_parts_in_one_line() -> None:
    assert str(read_error_content(S3_EXPIRED)) == "AccessDenied: Request has expired"
    assert str(ErrorContent("NoSuchKey")) == "NoSuchKey"
    assert str(ErrorContent("", "It is gone")) == "It is gone"
    assert str(ErrorContent()) == ""


URL = "https://user:hunter22@h/a?X-Amz-Signature=0123456789abcdef&key=tok%2Fen+1%3D&id=42&q=abc&flag"
HEADERS = (
    ("Authorization", "Bearer eyJhbGciOi.J9"),
    ("Proxy-Authorization", "Basic dTpjb3JyZWN0LWhvcnNl"),
    ("Cookie", "session=s3ss10n-1d; theme=dark"),
)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("signature 0123456789abcdef is wrong", "signature ... is wrong"),
        ("0123456789ABCDEF 0123456789abcdef0", "0123456789ABCDEF ...0"),
        ("no tok/en 1= and no tok%2Fen+1%3D and no tok/en+1=", "no ... and no ... and no ..."),
        ("42 objects of abc, abcd", "42 objects of ..., abcd"),
        ("the token eyJhbGciOi.J9 is old", "the token ... is old"),
        ("the session s3ss10n-1d is over", "the session ... is over"),
        ("no user with hunter22 or user:hunter22", "no ... with ... or ..."),
        ("dXNlcjpodW50ZXIyMg== is refused", "... is refused"),
        ("wrong password correct-horse", "wrong password ..."),
        ("see https://u:p@help.test/a?token=x#y for more", "see https://help.test/a for more"),
        ("a\x1b[31mred\x07\u202etxt.exe", "a [31mred txt.exe"),
        ("one line\nand another", "one line"),
        ("x" * 1000, "x" * 200 + "..."),
    ],
)
def test_what_is_not_shown_of_a_message(message: str, shown: str) -> None:
    data = json.dumps({"message": message}).encode()
    assert read_error_content(data, URL, HEADERS).message == shown


def test_a_code_is_a_word() -> None:
    assert read_error_content(json.dumps({"code": "x" * 61, "message": "m"}).encode()) == ErrorContent("", "m")
    assert read_error_content(b'{"code": "0123456789abcdef"}', URL).code == "..."


SECRETS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=8, max_size=40)
WORDS = st.text("abcdefghijklmnopqrstuvwxyz :/?&=<>\x1b\n\u202e", max_size=30)


@given(secret=SECRETS, token=SECRETS, before=WORDS, after=WORDS, code=WORDS, as_xml=st.booleans())
def test_what_was_sent_never_comes_back_in_a_message(
    secret: str, token: str, before: str, after: str, code: str, as_xml: bool
) -> None:
    message = f"{before}{secret}{after}{token}{before}"
    content = (
        f"<Error><Code>{escape(code + token)}</Code><Message>{escape(message)}</Message></Error>"
        if as_xml
        else json.dumps({"error": {"code": code + token, "message": message}})
    )
    shown = str(read_error_content(content.encode(), f"https://h/a?sig={secret}", [("X-Token", f"Bearer {token}")]))
    assert secret not in shown and token not in shown
    assert shown.isprintable() and len(shown) < 300


@given(content=st.binary(max_size=300) | st.text('<>CodeMsagEr/{}":,é\x00', max_size=200).map(str.encode))
def test_any_content_is_read_without_an_error(content: bytes) -> None:
    for start in (b"", b"<Error>", b"<Error><Code>", b"{"):
        assert str(read_error_content(start + content)).isprintable()
