"""Reading declared checksums out of response heads: documented examples, traps, and whatever a server may send."""

from __future__ import annotations

import hashlib
import sys

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.core.head import ResponseHead, header_lines
from getm.integrity.declared.discover import Discovery, discover
from getm.integrity.declared.s3 import may_ask_checksums
from getm.integrity.declared.types import Declared
from getm.integrity.values import DIGEST_BYTES, STRENGTH, parse_checksum

URL = "https://data.example.org/file"
EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
MD5_HEX = "25f9e794323b453885f5181f1b624d0b"
MD5_B64 = "JfnnlDI7RTiF9RgfG2JNCw=="
SHA256_B64 = "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="
SHA256_HEX = "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"


def read(
    *headers: tuple[str, str], size: int | None = 9, url: str = URL, status: int = 200, ranged: bool = False
) -> Discovery:
    return discover([ResponseHead.of(status, url, headers, ranged)], size=size)


def found(discovery: Discovery) -> list[tuple[str, str]]:
    return [(str(each.checksum), each.source) for each in discovery.declared]


def test_a_reply_that_declares_nothing() -> None:
    plain = read(("Content-Type", "text/plain"), ("ETag", '"6553f100-9"'), ("Server", "nginx/1.22.1"))
    assert plain == Discovery((), ())
    assert plain.reason == "the server declared no checksum"
    assert discover([], size=None) == Discovery((), ())


# RFC 9530 and its forerunners ----------------------------------------------------------------------------------------


def test_repr_digest_as_in_rfc_9530_appendix_b_1() -> None:
    # The representation is {"hello": "world"} and a line feed.
    body = b'{"hello": "world"}\n'
    discovery = read(
        ("Content-Digest", "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"),
        ("Repr-Digest", "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"),
        size=len(body),
    )
    assert found(discovery) == [("sha256:" + hashlib.sha256(body).hexdigest(), "Repr-Digest")]
    assert discovery.notes == ()


def test_repr_digest_holds_on_a_206_and_content_digest_does_not() -> None:
    # RFC 9530, appendix B.5: a partial reply has a Content-Digest of its own.
    discovery = read(
        ("Repr-Digest", f"sha-256=:{SHA256_B64}:"),
        ("Content-Digest", "sha-512=:" + "A" * 86 + "==:"),
        status=206,
    )
    assert found(discovery) == [(f"sha256:{SHA256_HEX}", "Repr-Digest")]
    assert any("Content-Digest" in note and "range" in note for note in discovery.notes)


def test_repr_digest_repeated_with_several_algorithms_and_parameters() -> None:
    discovery = read(
        ("repr-digest", f"sha-256=:{SHA256_B64}:;q=1"),
        ("Repr-Digest", f"unixsum=1, md5=:{MD5_B64}:"),
        ("Repr-Digest", "crc32c=:4waSgw==:, sha=:98O8HYCOBHMq32eZZczDTKeuNEE=:"),
    )
    assert [checksum for checksum, _ in found(discovery)] == [
        f"sha256:{SHA256_HEX}",
        "sha1:" + hashlib.sha1(b"123456789").hexdigest(),
        f"md5:{MD5_HEX}",
        "crc32c:e3069283",
    ]


@pytest.mark.parametrize(
    "value",
    [
        "sha-256",
        "sha-256=abc",
        "sha-256=:YWJj:",
        "sha-256=:!!!:",
        "=",
        "",
        "sha-256=(:YWJj:)",
        "\xff",
        f'sha-256="{SHA256_B64}"',
    ],
)
def test_row_37_malformed_structured_fields_are_named_and_skipped(value: str) -> None:
    discovery = read(("Repr-Digest", value), ("Content-MD5", MD5_B64))
    assert found(discovery) == [(f"md5:{MD5_HEX}", "Content-MD5")]
    if value:
        assert any("Repr-Digest is malformed" in note for note in discovery.notes)


@given(digests=st.dictionaries(st.sampled_from(["sha-256", "sha-512", "md5", "sha", "crc32c"]), st.binary(max_size=70)))
def test_structured_fields_written_by_http_sf_are_read_back(digests: dict[str, bytes]) -> None:
    names = {"sha-256": "sha256", "sha-512": "sha512", "md5": "md5", "sha": "sha1", "crc32c": "crc32c"}
    discovery = read(("Repr-Digest", http_sf.ser({**digests}) if digests else ""))
    right = {names[key]: value for key, value in digests.items() if len(value) == DIGEST_BYTES[names[key]]}
    assert {each.checksum.algorithm: each.checksum.value for each in discovery.declared} == right
    assert len(discovery.notes) == len(digests) - len(right)


@given(
    digest=st.sampled_from(sorted({"sha-256": 32, "sha-512": 64, "md5": 16}.items())).flatmap(
        lambda item: st.tuples(st.just(item[0]), st.binary(min_size=item[1], max_size=item[1]))
    )
)
def test_right_structured_fields_are_always_taken(digest: tuple[str, bytes]) -> None:
    discovery = read(("Content-Digest", http_sf.ser(dict([digest]))))
    assert [each.checksum.value for each in discovery.declared] == [digest[1]]
    assert discovery.declared[0].source == "Content-Digest"


def test_the_older_digest_field_of_rfc_3230() -> None:
    discovery = read(("Digest", f"SHA-256={SHA256_B64},unixsum=30637"), ("Digest", f"md5={MD5_B64}"))
    assert found(discovery) == [(f"sha256:{SHA256_HEX}", "Digest"), (f"md5:{MD5_HEX}", "Digest")]
    assert discovery.notes == ()


def test_digests_of_the_identity_coding_do_not_cover_coded_bytes() -> None:
    field = ("Digest", f"id-sha-256={SHA256_B64}")
    assert found(read(field)) == [(f"sha256:{SHA256_HEX}", "Digest")]
    coded = read(field, ("Content-Encoding", "gzip"))
    assert coded.declared == ()
    assert "gzip" in coded.reason


@pytest.mark.parametrize("value", [MD5_B64, MD5_HEX, MD5_HEX.upper(), MD5_B64.rstrip("=")])
def test_content_md5_in_base64_and_hex(value: str) -> None:
    assert found(read(("Content-MD5", value))) == [(f"md5:{MD5_HEX}", "Content-MD5")]


def test_row_15_digests_of_a_coded_body_still_count() -> None:
    discovery = read(("Content-Encoding", "gzip"), ("Content-MD5", MD5_B64), ("Repr-Digest", f"sha-256=:{SHA256_B64}:"))
    assert len(discovery.declared) == 2


# Google Cloud Storage ------------------------------------------------------------------------------------------------

# The example in the Cloud Storage documentation of x-goog-hash.
GOOG = ("crc32c=n03x6A==", "md5=Ojk9c3dhfxgoKVVHYwFbHQ==")
GOOG_FOUND = [("md5:3a393d7377617f182829554763015b1d", "x-goog-hash"), ("crc32c:9f4df1e8", "x-goog-hash")]


@pytest.mark.parametrize(
    "headers",
    [
        [("x-goog-hash", ",".join(GOOG))],
        [("x-goog-hash", ", ".join(reversed(GOOG)))],
        [("x-goog-hash", GOOG[0]), ("X-Goog-Hash", GOOG[1])],
        [("x-goog-hash", GOOG[0]), ("x-goog-hash", GOOG[1]), ("x-goog-stored-content-encoding", "identity")],
        [("x-goog-hash", ",".join(GOOG)), ("x-goog-stored-content-length", "9")],
    ],
)
def test_goog_hash_joined_and_repeated(headers: list[tuple[str, str]]) -> None:
    assert found(read(*headers)) == GOOG_FOUND
    assert found(read(*headers, status=206, ranged=True)) == GOOG_FOUND  # it always covers the whole object


def test_goog_composite_objects_have_a_crc_only() -> None:
    discovery = read(("x-goog-hash", GOOG[0]), ("ETag", '"-CKicn4fknegCEAE="'), ("x-goog-component-count", "3"))
    assert found(discovery) == GOOG_FOUND[1:]


def test_row_16_goog_transcoding_is_skipped_with_a_note() -> None:
    stored = (("x-goog-hash", ",".join(GOOG)), ("x-goog-stored-content-encoding", "gzip"))
    transcoded = read(*stored)
    assert transcoded.declared == ()
    assert "stored bytes" in transcoded.reason
    assert "transcoded" in transcoded.reason
    assert found(read(*stored, ("Content-Encoding", "gzip"))) == GOOG_FOUND
    assert read(("x-goog-hash", GOOG[0]), ("Content-Encoding", "br")).declared == ()
    assert read(("x-goog-hash", GOOG[0]), ("x-goog-stored-content-length", "10")).declared == ()


@pytest.mark.parametrize("value", ["crc32c=zzz", "md5", "md5=n03x6A==", "crc32c"])
def test_row_37_malformed_goog_hash(value: str) -> None:
    discovery = read(("x-goog-hash", value), ("x-goog-hash", "sha9=abc"))
    assert discovery.declared == ()
    assert sum("x-goog-hash" in note for note in discovery.notes) == 2


# Amazon S3 -----------------------------------------------------------------------------------------------------------

S3 = (
    ("Server", "AmazonS3"),
    ("x-amz-request-id", "318BC8BC148832E5"),
    ("x-amz-id-2", "eftixk72aD6Ap51TnqcoF8eFidJG9Z/2"),
)
ETAG = ("ETag", f'"{MD5_HEX}"')


def test_a_single_part_s3_etag_is_the_md5() -> None:
    for etag in (ETAG, ("etag", f'"{MD5_HEX.upper()}"')):
        assert found(read(*S3, etag)) == [(f"md5:{MD5_HEX}", "ETag")]
        assert found(read(*S3, etag, status=206, ranged=True)) == [(f"md5:{MD5_HEX}", "ETag")]
        assert found(read(*S3, etag, ("x-amz-server-side-encryption", "AES256"))) == [(f"md5:{MD5_HEX}", "ETag")]


@pytest.mark.parametrize(
    "headers",
    [
        (("Server", "AmazonS3"),),
        (("x-amz-request-id", "tx0000"),),  # Ceph, Wasabi and others
        (("Server", "MinIO"), ("X-Amz-Request-Id", "1763981989CFF124"), ("X-Amz-Id-2", "7987")),
        (("Server", "Werkzeug/3.1.9"), ("x-amzn-requestid", "iCAC"), ("x-amz-sdk-checksum-algorithm", "CRC32")),  # moto
    ],
)
def test_servers_whose_etags_follow_s3(headers: tuple[tuple[str, str], ...]) -> None:
    assert found(read(*headers, ETAG)) == [(f"md5:{MD5_HEX}", "ETag")]


def test_a_reply_of_an_amazon_host_needs_no_mark() -> None:
    for host in ("S3.amazonaws.com:443", "bucket.s3.eu-central-1.amazonaws.com", "b.s3.cn-north-1.amazonaws.com.cn"):
        assert found(read(ETAG, url=f"https://{host}/b/k")) == [(f"md5:{MD5_HEX}", "ETag")]
    for host in ("s3.amazonaws.com.evil.example", "nots3.example", "ec2.amazonaws.com"):
        assert read(ETAG, url=f"https://{host}/b/k").declared == ()


@pytest.mark.parametrize(
    "headers",
    [
        (ETAG,),
        (ETAG, ("Server", "nginx/1.25.3")),
        (("ETag", '"5f1e2d3c-1a2b"'), ("Server", "nginx")),
        (ETAG, ("Server", "Apache"), ("x-amz-cf-id", "a-cdn")),
    ],
)
def test_etags_of_other_servers_say_nothing(headers: tuple[tuple[str, str], ...]) -> None:
    assert read(*headers) == Discovery((), ())


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ((*S3, ETAG, ("x-amz-server-side-encryption", "aws:kms")), "aws:kms"),
        ((*S3, ETAG, ("x-amz-server-side-encryption", "aws:kms:dsse")), "aws:kms:dsse"),
        ((*S3, ETAG, ("x-amz-server-side-encryption-customer-algorithm", "AES256")), "SSE-C"),
        ((*S3, ETAG, ("x-amz-storage-class", "EXPRESS_ONEZONE")), "directory bucket"),
        ((*S3, ("ETag", f'W/"{MD5_HEX}"')), "form"),
        ((*S3, ("ETag", f'"{MD5_HEX}x"')), "form"),
        ((*S3, ETAG, ("ETag", f'"{EMPTY_MD5}"')), "form"),
        (
            (("x-amz-request-id", "1"), ("Server", "MinIO"), ETAG, ("x-amz-server-side-encryption", "AES256")),
            "encrypted",
        ),
        ((("x-amz-request-id", "1"), ETAG, ("Content-Encoding", "gzip")), "gzip"),
        ((*S3, ("ETag", f'"{MD5_HEX}-10001"')), "malformed"),
        ((*S3, ("ETag", f'"{MD5_HEX}-3"')), "3 parts"),
    ],
)
def test_s3_etags_that_are_no_md5_are_skipped_with_the_reason(
    headers: tuple[tuple[str, str], ...], reason: str
) -> None:
    discovery = read(*headers, size=1)
    assert discovery.declared == ()
    assert "ETag" in discovery.reason
    assert reason in discovery.reason


@pytest.mark.parametrize(
    "url",
    [
        "https://data--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/key",
        "https://alias-123.s3-object-lambda.us-east-1.amazonaws.com/key",
    ],
)
def test_hosts_whose_etags_are_no_md5(url: str) -> None:
    assert read(*S3, ETAG, url=url).declared == ()


def test_multipart_etags_come_last_and_need_the_size() -> None:
    etag = ("ETag", f'"{MD5_HEX}-3"')
    crc = ("x-amz-checksum-crc32", "y/Q5Jg==")
    assert found(read(*S3, etag, crc, size=20 << 20)) == [
        ("crc32:cbf43926", "x-amz-checksum-crc32"),
        (f"s3-etag:{MD5_HEX}-3", "ETag"),
    ]
    unknown = read(*S3, etag, size=None)
    assert unknown.declared == ()
    assert "without the size" in unknown.reason


# Values of b"123456789", as GetObject gives them.
AMZ = {
    "crc32": "y/Q5Jg==",
    "crc32c": "4waSgw==",
    "crc64nvme": "rosUhgp5mIg=",
    "sha1": "98O8HYCOBHMq32eZZczDTKeuNEE=",
    "sha256": SHA256_B64,
    "md5": MD5_B64,
    "xxhash64": "jLhB23Vl0bE=",
    "xxhash3": "AAAAAAAAAAA=",
    "xxhash128": "AAAAAAAAAAAAAAAAAAAAAA==",
    "sha512": "A" * 86 + "==",
}


def test_all_additional_checksums_strongest_first() -> None:
    headers = [(f"x-amz-checksum-{name}", value) for name, value in AMZ.items()]
    discovery = read(*headers, ("x-amz-checksum-type", "FULL_OBJECT"))
    assert [each.source.removeprefix("x-amz-checksum-") for each in discovery.declared] == [
        "sha512",
        "sha256",
        "sha1",
        "md5",
        "xxhash128",
        "xxhash3",
        "xxhash64",
        "crc64nvme",
        "crc32c",
        "crc32",
    ]
    assert str(discovery.declared[-3].checksum) == "crc64nvme:ae8b14860a799888"
    assert discovery.notes == ()


@pytest.mark.parametrize(
    "headers",
    [
        (("x-amz-checksum-sha256", "2qXW+F4KwLkYFPGnckLOh/NdC0Xlb0SDCCwI2sDVPqE=-2"),),
        (("x-amz-checksum-sha256", SHA256_B64), ("x-amz-checksum-type", "COMPOSITE")),
    ],
)
def test_row_36_composite_checksums_are_ignored(headers: tuple[tuple[str, str], ...]) -> None:
    discovery = read(*S3, *headers)
    assert discovery.declared == ()
    assert "composite" in discovery.reason


@pytest.mark.parametrize(("status", "ranged"), [(206, True), (206, False), (200, True)])
def test_row_36_additional_checksums_on_a_ranged_reply_are_ignored(status: int, ranged: bool) -> None:
    discovery = read(*S3, ("x-amz-checksum-crc32", AMZ["crc32"]), status=status, ranged=ranged)
    assert discovery.declared == ()
    assert "ranged response" in discovery.reason


PRESIGNED = "https://b.s3.amazonaws.com/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=abc&X-Amz-SignedHeaders="


@pytest.mark.parametrize(
    ("url", "headers", "may"),
    [
        ("https://bucket.s3.amazonaws.com/key", [], True),
        ("https://s3.us-west-2.amazonaws.com/bucket/key", [("User-Agent", "x")], True),
        (PRESIGNED + "host", [], False),
        (PRESIGNED + "host%3Bx-amz-checksum-mode", [], True),
        (PRESIGNED.lower() + "host;x-amz-checksum-mode", [], True),
        ("https://b.s3.amazonaws.com/k?AWSAccessKeyId=a&Signature=s&Expires=1&x-amz-checksum-mode=ENABLED", [], False),
        ("https://bucket.s3.amazonaws.com/key", [("authorization", "AWS4-HMAC-SHA256 ...")], False),
        ("https://data--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/key", [], False),
        ("https://minio.example.org/bucket/key", [], False),
        ("https://storage.googleapis.com/bucket/key", [], False),
        ("https://[::1", [], False),
    ],
)
def test_checksums_are_asked_for_only_where_no_signature_breaks(
    url: str, headers: list[tuple[str, str]], may: bool
) -> None:
    assert may_ask_checksums(url, headers) is may


# Azure, repositories, Hugging Face -----------------------------------------------------------------------------------


def test_azure_full_and_ranged() -> None:
    full = read(("Content-MD5", MD5_B64), ("x-ms-request-id", "1"))
    assert found(full) == [(f"md5:{MD5_HEX}", "Content-MD5")]
    other = "1B2M2Y8AsgTpgAmY7PhCfg=="
    ranged = read(("Content-MD5", other), ("x-ms-blob-content-md5", MD5_B64), status=206, ranged=True)
    assert found(ranged) == [(f"md5:{MD5_HEX}", "x-ms-blob-content-md5")]


def test_repository_checksums_as_maven_central_and_artifactory_send_them() -> None:
    discovery = read(
        ("X-Checksum-MD5", MD5_HEX),
        ("X-Checksum-Sha1", "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
        ("x-checksum-sha256", SHA256_HEX),
        ("ETag", "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
        status=206,
    )
    assert [source for _, source in found(discovery)] == ["x-checksum-sha256", "x-checksum-sha1", "x-checksum-md5"]
    assert discovery.notes == ()


def hugging_face(*redirect: tuple[str, str], size: int | None = 9) -> Discovery:
    cdn = (*S3, ("ETag", f'"{MD5_HEX}-1"'), ("x-amz-storage-class", "INTELLIGENT_TIERING"))
    return discover(
        [
            ResponseHead.of(302, "https://huggingface.co/org/model/resolve/main/model.bin", redirect),
            ResponseHead.of(200, "https://cas-bridge.xethub.hf.co/xet-bridge-us/1/2?X-Amz-Signature=secret", cdn),
        ],
        size=size,
    )


def test_row_38_hugging_face_linked_sha256_only() -> None:
    discovery = hugging_face(("X-Linked-Size", "9"), ("X-Linked-Etag", f'"{SHA256_HEX}"'), ("ETag", '"1-2"'))
    assert found(discovery) == [(f"sha256:{SHA256_HEX}", "X-Linked-Etag")]
    assert discovery.notes == ()


def test_linked_etags_that_are_no_sha256_or_of_something_else() -> None:
    git_blob = hugging_face(("X-Linked-Etag", '"f7c3bc1d808e04732adf679965ccc34ca7ae3441"'))
    assert "X-Linked-Etag was skipped" in git_blob.reason
    other_size = hugging_face(("X-Linked-Etag", f'"{SHA256_HEX}"'), ("X-Linked-Size", "10"))
    assert "X-Linked-Size is '10'" in other_size.reason
    assert "secret" not in git_blob.reason + other_size.reason


GIT_ID = "d670460b4b4aece5915caf5c68d12f560a9fe3e4"


@pytest.mark.parametrize(
    ("etag", "others", "size", "declared"),
    [
        (f'"{GIT_ID}"', [("X-Repo-Commit", "abc")], 13, [(f"git-blob:{GIT_ID}", "ETag")]),
        (f'W/"{GIT_ID}"', [("X-Repo-Commit", "abc")], 13, [(f"git-blob:{GIT_ID}", "ETag")]),
        (f'"{GIT_ID}"', [], 13, []),
        (f'"{GIT_ID}"', [("X-Repo-Commit", "abc")], None, []),
        (f'"{SHA256_HEX}"', [("X-Repo-Commit", "abc")], 13, []),
    ],
)
def test_what_the_hub_sends_itself_has_the_id_that_git_gives(
    etag: str, others: list[tuple[str, str]], size: int | None, declared: list[tuple[str, str]]
) -> None:
    head = ResponseHead.of(200, "https://huggingface.co/org/model/resolve/main/x", (("ETag", etag), *others))
    assert found(discover([head], size=size)) == declared


def test_other_headers_of_a_redirect_are_about_the_redirect() -> None:
    redirect = ResponseHead.of(302, URL, (("Content-MD5", MD5_B64), ("Repr-Digest", f"sha-256=:{SHA256_B64}:")))
    assert discover([redirect, ResponseHead.of(200, URL, ())], size=9) == Discovery((), ())


def test_a_linked_etag_counts_on_redirects_only() -> None:
    assert read(("X-Linked-Etag", f'"{SHA256_HEX}"')) == Discovery((), ())


# Weighing ------------------------------------------------------------------------------------------------------------


def test_row_37_contradicting_declarations_are_both_dropped_with_a_note() -> None:
    discovery = read(("Content-MD5", MD5_B64), ("x-checksum-md5", EMPTY_MD5), ("x-checksum-sha256", SHA256_HEX))
    assert found(discovery) == [(f"sha256:{SHA256_HEX}", "x-checksum-sha256")]
    assert discovery.notes == ("x-checksum-md5 and Content-MD5 declare different md5 values; neither was used",)


def test_an_etag_yields_to_what_is_stated() -> None:
    discovery = read(*S3, ("ETag", f'"{EMPTY_MD5}"'), ("Content-MD5", MD5_B64))
    assert found(discovery) == [(f"md5:{MD5_HEX}", "Content-MD5")]
    assert discovery.notes == ("ETag was skipped: it contradicts Content-MD5",)


def test_agreeing_declarations_count_once() -> None:
    assert found(read(*S3, ETAG, ("Content-MD5", MD5_B64), ("Content-MD5", MD5_HEX))) == [
        (f"md5:{MD5_HEX}", "Content-MD5")
    ]


def test_what_cannot_be_computed_here_is_skipped_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anycrc", None)
    discovery = read(("x-amz-checksum-crc64nvme", AMZ["crc64nvme"]), ("x-amz-checksum-crc32", AMZ["crc32"]))
    assert found(discovery) == [("crc32:cbf43926", "x-amz-checksum-crc32")]
    assert "anycrc" in discovery.reason


def test_every_algorithm_has_a_strength() -> None:
    assert set(STRENGTH) == set(DIGEST_BYTES)


HEADER_NAMES = [
    "Repr-Digest",
    "Content-Digest",
    "Digest",
    "Content-MD5",
    "x-goog-hash",
    "x-goog-stored-content-encoding",
    "ETag",
    "Server",
    "x-amz-request-id",
    "x-amz-checksum-crc32",
    "x-amz-checksum-type",
    "x-amz-server-side-encryption",
    "x-ms-blob-content-md5",
    "x-checksum-sha256",
    "X-Linked-Etag",
    "X-Linked-Size",
    "Content-Encoding",
]
VALUES = st.one_of(
    st.text(max_size=80),
    st.sampled_from(["AmazonS3", "gzip", f'"{MD5_HEX}"', f'"{MD5_HEX}-2"', MD5_B64, SHA256_HEX, f"md5={MD5_B64}"]),
)


NUMBERS = range(12_000)
LONG = "a" * 65_000


@pytest.mark.parametrize(
    "headers",
    [
        [("Digest", ",".join(f"{number:x}" for number in NUMBERS))] * 20,
        [("Digest", f"id-{LONG}"), ("Content-Encoding", LONG)],
        [("Digest", ",".join("id-md5" for _ in NUMBERS)), ("Content-Encoding", LONG)],
        [("x-goog-hash", ",".join(f"{number:x}=" for number in NUMBERS))] * 20,
        [("x-goog-hash", "md5="), ("x-goog-stored-content-encoding", LONG)],
        [("x-goog-hash", "md5="), ("x-goog-stored-content-length", LONG)],
        [("Repr-Digest", ",".join(f"k{number:x}" for number in NUMBERS))] * 20,
        [("Repr-Digest", f"md5=:{LONG}:")],
        [("Repr-Digest", "md5=" + "(" * 65_000)],
        [("Repr-Digest", f"md5={LONG}"[:16_000])],
        [("Content-MD5", f"{number}{LONG}") for number in range(250)],
        [("x-amz-checksum-md5", f"{number}{LONG}") for number in range(250)],
        [("x-amz-request-id", "1"), ETAG, ("x-amz-server-side-encryption", LONG)],
        [("x-amz-request-id", "1"), ETAG, ("Content-Encoding", LONG)],
    ],
    ids=lambda headers: headers[0][0],
)
def test_case_9_a_hostile_head_makes_few_and_short_notes(headers: list[tuple[str, str]]) -> None:
    discovery = read(*headers)
    assert 1 <= len(discovery.notes) <= 9
    assert len(discovery.reason) < 2_000


@pytest.mark.deadline(20)
def test_case_9_a_redirect_to_a_host_of_any_length_is_looked_at_in_linear_time() -> None:
    # In quadratic time this takes minutes.
    url = f"https://{'.s3' * 100_000}.amazonaws.co/"
    assert read(ETAG, url=url) == Discovery()
    assert not may_ask_checksums(url)


@given(
    raw=st.lists(
        st.tuples(
            st.sampled_from(HEADER_NAMES).map(str.encode),
            st.binary(max_size=60) | st.sampled_from([b"AmazonS3", ETAG[1].encode(), b"gzip", b"md5=\x1b[31m\x9b"]),
        ),
        max_size=8,
    )
)
def test_case_1_notes_about_any_bytes_are_printable_ascii(raw: list[tuple[bytes, bytes]]) -> None:
    headers = ResponseHead(200, "", header_lines(raw)).headers
    discovery = discover([ResponseHead.of(302, URL, headers), ResponseHead.of(200, URL, headers)], size=9)
    for note in discovery.notes:
        assert note.isascii() and note.isprintable()


@given(
    headers=st.lists(st.tuples(st.sampled_from(HEADER_NAMES), VALUES), max_size=8),
    redirect=st.lists(st.tuples(st.sampled_from(HEADER_NAMES), VALUES), max_size=3),
    size=st.none() | st.integers(-5, 1 << 45),
    status=st.sampled_from([200, 206, 416]),
    url=st.text(max_size=30),
)
def test_whatever_a_server_sends_never_raises(
    headers: list[tuple[str, str]],
    redirect: list[tuple[str, str]],
    size: int | None,
    status: int,
    url: str,
) -> None:
    discovery = discover(
        [ResponseHead.of(302, url, tuple(redirect)), ResponseHead.of(status, url, tuple(headers))], size=size
    )
    algorithms = [each.checksum.algorithm for each in discovery.declared]
    assert len(set(algorithms)) == len(algorithms)
    for each in discovery.declared:
        assert isinstance(each, Declared)
        assert parse_checksum(str(each.checksum)) == each.checksum
