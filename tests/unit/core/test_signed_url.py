"""Which URLs are signed, and when they expire."""

from __future__ import annotations

import base64
import json
import random
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.core.signed_url import CLOCK_ALLOWANCE_S, Signature, expired_by_clock, find_signature, utc_text

HOST = "https://bucket.example.test/a%20key"
# 2024-01-01 00:01:00 UTC.
DUE_S = 1_704_067_260.0

AMZ = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20240101%2Fus-east-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20240101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=0123abcd"
)
GOOG = (
    "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=me%40project.iam.gserviceaccount.com%2F20240101%2Fauto"
    "%2Fstorage%2Fgoog4_request&X-Goog-Date=20240101T000000Z&X-Goog-Expires=60&X-Goog-SignedHeaders=host"
    "&X-Goog-Signature=0123abcd"
)
AMZ_2 = "AWSAccessKeyId=AKIDEXAMPLE&Expires=1704067260&Signature=vjbyPxybdZaNmGa%2ByT272YEAiv4%3D"
GOOG_2 = "GoogleAccessId=me%40project.iam.gserviceaccount.com&Expires=1704067260&Signature=vjby%2Bx%3D"
CLOUDFRONT = "Expires=1704067260&Signature=nitfHRCrtziwO2HwPfWw~yYDhUF5EwRunQA-j19DzZr&Key-Pair-Id=K2JCJMDEHXQW5F"
CLOUD_CDN = "Expires=1704067260&KeyName=mySigningKey&Signature=8NBSdQGzvDftrOIa3WHpp646Iis="
AZURE = "sv=2022-11-02&st=2023-12-31T00%3A00%3A00Z&se=2024-01-01T00%3A01%3A00Z&sr=b&sp=r&spr=https&sig=Z%2FRHIX5X%3D"
AZURE_ACCOUNT = "sv=2022-11-02&ss=b&srt=co&sp=rl&se=2024-01-01T00:01Z&sig=Z%2FRHIX5X%3D"


def policy_query(condition: object) -> str:
    text = json.dumps({"Statement": [{"Resource": "https://d1.example.test/*", "Condition": condition}]})
    coded = base64.b64encode(text.encode()).decode().translate(str.maketrans("+=/", "-_~"))
    return f"Policy={coded}&Signature=nitfHRC~y-_&Key-Pair-Id=K2JCJMDEHXQW5F"


POLICY = policy_query({"DateLessThan": {"AWS:EpochTime": 1704067260}, "IpAddress": {"AWS:SourceIp": "192.0.2.0/24"}})
EACH = {
    "s3 v4": AMZ,
    "gcs v4": GOOG,
    "s3 v2": AMZ_2,
    "gcs v2": GOOG_2,
    "cloudfront": CLOUDFRONT,
    "cloudfront policy": POLICY,
    # As Hugging Face redirects to: the policy is what counts.
    "both": f"Expires=1999999999&{POLICY}",
    "cloud cdn": CLOUD_CDN,
    "azure": AZURE,
    "azure account": AZURE_ACCOUNT,
}
each_kind = pytest.mark.parametrize("query", EACH.values(), ids=EACH)


@each_kind
def test_each_kind_of_signature(query: str) -> None:
    assert find_signature(f"{HOST}?{query}") == Signature(DUE_S)
    assert find_signature(f"{HOST}?response-content-type=text%2Fplain&{query}&x=1#part") == Signature(DUE_S)
    assert find_signature(f"{HOST}?{'&'.join(reversed(query.split('&')))}") == Signature(DUE_S)


@each_kind
def test_our_clock_may_be_wrong_by_a_quarter_of_an_hour(query: str) -> None:
    url = f"{HOST}?{query}"
    assert CLOCK_ALLOWANCE_S == 900
    assert expired_by_clock(url, DUE_S + CLOCK_ALLOWANCE_S) == DUE_S
    assert expired_by_clock(url, DUE_S + CLOCK_ALLOWANCE_S - 0.001) is None
    assert expired_by_clock(url, 0.0) is None


NEEDED = {
    AMZ: ("X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Signature"),
    GOOG: ("X-Goog-Credential", "X-Goog-Date", "X-Goog-Expires", "X-Goog-Signature"),
    AMZ_2: ("AWSAccessKeyId", "Expires", "Signature"),
    GOOG_2: ("GoogleAccessId", "Expires", "Signature"),
    CLOUDFRONT: ("Expires", "Signature", "Key-Pair-Id"),
    POLICY: ("Policy", "Signature", "Key-Pair-Id"),
    CLOUD_CDN: ("Expires", "KeyName", "Signature"),
    AZURE: ("sv", "se", "sr", "sig"),
    AZURE_ACCOUNT: ("sv", "se", "ss", "sig"),
}


@pytest.mark.parametrize(("query", "name"), [(query, name) for query, names in NEEDED.items() for name in names])
def test_a_url_that_lacks_one_parameter_or_has_it_twice_is_not_taken_for_signed(query: str, name: str) -> None:
    pairs = query.split("&")
    (own,) = [pair for pair in pairs if pair.startswith(f"{name}=")]
    others = [pair for pair in pairs if pair != own]
    for changed in (others, [*others, f"{name}="], [*pairs, own], [*pairs, f"{name}=other"], [*others, f"{name}-x=1"]):
        assert find_signature(f"{HOST}?{'&'.join(changed)}") is None


ORDINARY = (
    "https://h/a.bam",
    "https://h/a.bam?Expires=1704067260",
    "https://h/a.bam?se=2024-01-01",
    "https://h/a.bam?expires=1704067260&token=abc",
    "https://h/a.bam?Expires=1704067260&Signature=abc",
    "https://h/search?sv=1&se=2024-01-01&q=sig",
    "https://h/search?se=2024-01-01&sig=abc",
    "https://h/film?sv=en&sr=de&se=2020-01-01",
    "https://h/a?X-Amz-Date=20240101T000000Z&X-Amz-Expires=60",
    "https://h/a?redirect=https://b/?AWSAccessKeyId%3Da%26Expires%3D1704067260%26Signature%3Db",
    "https://h/a#?AWSAccessKeyId=a&Expires=1704067260&Signature=b",
    "https://h/AWSAccessKeyId=a&Expires=1704067260&Signature=b",
)


@pytest.mark.parametrize("url", ORDINARY)
def test_an_ordinary_url_with_such_parameters_is_not_judged(url: str) -> None:
    assert find_signature(url) is None
    assert expired_by_clock(url, 4e9) is None


UNREADABLE = (
    AMZ.replace("20240101T000000Z", "2024-01-01T00:00:00Z"),
    AMZ.replace("20240101T000000Z", "20241301T000000Z"),
    AMZ.replace("20240101T000000Z", "99991231T235959Z"),
    AMZ.replace("Expires=60", "Expires=604801"),
    AMZ.replace("Expires=60", "Expires=0"),
    AMZ.replace("Expires=60", "Expires=-60"),
    AMZ.replace("Expires=60", "Expires=%2060"),
    AMZ.replace("Expires=60", "Expires=\u0666\u0660"),
    AMZ_2.replace("1704067260", "60"),
    AMZ_2.replace("1704067260", "1704067260000"),
    AMZ_2.replace("1704067260", "1704067260.5"),
    AMZ_2.replace("1704067260", "Mon, 01 Jan 2024 00:01:00 GMT"),
    AZURE.replace("2024-01-01T00%3A01%3A00Z", "2024-01-01T00:01:00"),
    AZURE.replace("2024-01-01T00%3A01%3A00Z", "20240101"),
    AZURE.replace("2024-01-01T00%3A01%3A00Z", "2024-02-30"),
    AZURE.replace("2024-01-01T00%3A01%3A00Z", "soon"),
    # The time is in a policy that the server has.
    AZURE.replace("se=2024-01-01T00%3A01%3A00Z", "si=readers"),
    policy_query({"DateGreaterThan": {"AWS:EpochTime": 1704067260}}),
    policy_query({"DateLessThan": {"AWS:EpochTime": "soon"}}),
    policy_query({"DateLessThan": 1704067260}),
    policy_query([]),
    "Policy=!!!&Signature=a&Key-Pair-Id=b",
    "Policy=bm8ganNvbg__&Signature=a&Key-Pair-Id=b",
    "Policy=W1tbW1s_&Signature=a&Key-Pair-Id=b",
    f"Policy={'A' * 10_000}&Signature=a&Key-Pair-Id=b",
)


@pytest.mark.parametrize("query", UNREADABLE)
def test_a_time_that_is_not_written_as_documented_is_unknown(query: str) -> None:
    assert find_signature(f"{HOST}?{query}") == Signature(None)
    assert expired_by_clock(f"{HOST}?{query}", 4e9) is None


@pytest.mark.parametrize(
    "text",
    (
        "2024-01-01T00:01:00Z",
        "2024-01-01T00%3A01%3A00Z",
        "2024-01-01T00:01:00.0000000Z",
        "2024-01-01T00:01Z",
        "2024-01-01T01:01+01:00",
        "2024-01-01T01%3A01%2B01%3A00",
        "2023-12-31T19:01:00-05:00",
    ),
)
def test_how_azure_writes_times(text: str) -> None:
    assert find_signature(f"{HOST}?{AZURE.replace('2024-01-01T00%3A01%3A00Z', text)}") == Signature(DUE_S)


def test_azure_takes_a_date_for_its_beginning() -> None:
    assert find_signature(f"{HOST}?{AZURE.replace('2024-01-01T00%3A01%3A00Z', '2024-01-01')}") == Signature(DUE_S - 60)


def test_times_for_people() -> None:
    assert utc_text(DUE_S) == "2024-01-01 00:01 UTC"
    assert utc_text(DUE_S + 59) == "2024-01-01 00:01 UTC"


WORDS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~%", min_size=1, max_size=12)
NAMES = WORDS | st.sampled_from(
    ("Expires", "expires", "se", "sv", "sr", "ss", "st", "sp", "Policy", "X-Amz-Date", "X-Amz-Expires", "X-Goog-Date")
)
# What an ordinary URL may have: everything but a signature.
ORDINARY_PAIRS = st.tuples(
    NAMES.filter(lambda name: not name.lower().endswith(("signature", "sig"))),
    WORDS | st.sampled_from(("1704067260", "2024-01-01", "20240101T000000Z", "60")),
)


@given(pairs=st.lists(ORDINARY_PAIRS, max_size=12), now_s=st.floats(0, 1e11))
def test_no_url_without_a_signature_is_ever_expired(pairs: list[tuple[str, str]], now_s: float) -> None:
    url = f"{HOST}?{'&'.join(f'{name}={value}' for name, value in pairs)}"
    assert find_signature(url) is None
    assert expired_by_clock(url, now_s) is None


@given(url=st.text(max_size=300) | st.lists(st.sampled_from("&".join(EACH.values()).split("&"))).map("&".join))
def test_any_text_is_judged_without_an_error(url: str) -> None:
    for text in (url, f"{HOST}?{url}"):
        find_signature(text)
        assert expired_by_clock(text, 0.0) is None


@given(
    signed_at=st.datetimes(datetime(2001, 10, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
    lifetime_s=st.integers(1, 604_800),
    extra=st.lists(WORDS, max_size=3),
    order=st.randoms(use_true_random=False),
    late_s=st.integers(-1_000_000, 1_000_000),
)
def test_the_time_that_was_signed_is_the_time_that_is_found(
    signed_at: datetime, lifetime_s: int, extra: list[str], order: random.Random, late_s: int
) -> None:
    signed_at = signed_at.replace(microsecond=0)
    due = signed_at + timedelta(seconds=lifetime_s)
    epoch = str(int(due.timestamp()))
    signed = (
        AMZ.replace("20240101T000000Z", f"{signed_at:%Y%m%dT%H%M%SZ}").replace("Expires=60", f"Expires={lifetime_s}"),
        GOOG.replace("20240101T000000Z", f"{signed_at:%Y%m%dT%H%M%SZ}").replace("Expires=60", f"Expires={lifetime_s}"),
        AMZ_2.replace("1704067260", epoch),
        GOOG_2.replace("1704067260", epoch),
        CLOUDFRONT.replace("1704067260", epoch),
        CLOUD_CDN.replace("1704067260", epoch),
        policy_query({"DateLessThan": {"AWS:EpochTime": int(epoch)}}),
        AZURE.replace("2024-01-01T00%3A01%3A00Z", quote(f"{due:%Y-%m-%dT%H:%M:%SZ}")),
    )
    for query in signed:
        pairs = [*query.split("&"), *(f"own-{word}={word}" for word in extra)]
        order.shuffle(pairs)
        url = f"{HOST}?{'&'.join(pairs)}"
        assert find_signature(url) == Signature(due.timestamp())
        refused = expired_by_clock(url, due.timestamp() + late_s)
        assert (refused == due.timestamp()) if late_s >= CLOCK_ALLOWANCE_S else refused is None
