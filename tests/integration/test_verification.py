"""What servers declare, from the header to the verdict: every kind, in every mode, with right bytes and wrong ones."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import logging
import random
from collections.abc import Callable
from pathlib import Path

import pytest

import getm
from getm.testing import FaultServer, Reply, Request, redirect
from tests.support.command import failure, names
from tests.support.command import getm as command
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
MODES = (1, 4, None)
# More than two parts of a ranged transfer (8 MiB each), and no whole number of slots.
BODY = random.Random(3).randbytes(17 * MIB + 5)
Make = Callable[..., ServedObject]


def digest(algorithm: str, body: bytes = BODY) -> getm.Checksum:
    return getm.checksum(body, algorithm)


def base64_of(algorithm: str, body: bytes = BODY) -> str:
    return digest(algorithm, body).base64


def etag_of(body: bytes, part_bytes: int) -> str:
    """The ETag of a multipart upload, as S3 makes it."""
    parts = [hashlib.md5(body[start : start + part_bytes]).digest() for start in range(0, len(body), part_bytes)]
    return f"{hashlib.md5(b''.join(parts)).hexdigest()}-{len(parts)}"


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=0)


def verdict_of(session: getm.Session, url: str, concurrency: int | None, body: bytes = BODY) -> getm.Verdict:
    """Read it all, compare every byte, and tell what getm says of it."""
    with session.urlopen(url, concurrency=concurrency) as fh:
        assert fh.read() == body
        return fh.checksum


def told(verdict: getm.Verdict) -> tuple[str | None, str | None]:
    assert verdict.verified and verdict.reason is None
    return (verdict.checksum.algorithm if verdict.checksum else None), verdict.source


# Every header ---------------------------------------------------------------------------------------------------------

S3 = {"x-amz-request-id": "4442587FB7D0A2F9"}
Headers = dict[str, str | list[str] | None]

# What is declared; the algorithm and header that verify; whether a ranged reply's says the same.
DECLARATIONS: dict[str, tuple[Headers, str, str, bool]] = {
    "Repr-Digest": ({"Repr-Digest": f"sha-256=:{base64_of('sha256')}:"}, "sha256", "Repr-Digest", True),
    "Repr-Digest of two": (
        {"Repr-Digest": [f"md5=:{base64_of('md5')}:", f"sha-512=:{base64_of('sha512')}:"]},
        "sha512",
        "Repr-Digest",
        True,
    ),
    "Digest": ({"Digest": f"SHA-256={base64_of('sha256')},MD5={base64_of('md5')}"}, "sha256", "Digest", True),
    "Content-Digest": ({"Content-Digest": f"sha-512=:{base64_of('sha512')}:"}, "sha512", "Content-Digest", False),
    "Content-MD5": ({"Content-MD5": base64_of("md5")}, "md5", "Content-MD5", False),
    "Content-MD5 in hex": ({"Content-MD5": digest("md5").hex}, "md5", "Content-MD5", False),
    "GCS, composite": ({"x-goog-hash": f"crc32c={base64_of('crc32c')}"}, "crc32c", "x-goog-hash", True),
    "GCS": (
        {"x-goog-hash": [f"crc32c={base64_of('crc32c')}", f"md5={base64_of('md5')}"]},
        "md5",
        "x-goog-hash",
        True,
    ),
    "Azure": ({"x-ms-blob-content-md5": base64_of("md5")}, "md5", "x-ms-blob-content-md5", True),
    "Artifactory": (
        {"X-Checksum-Sha1": digest("sha1").hex, "X-Checksum-Sha256": digest("sha256").hex},
        "sha256",
        "x-checksum-sha256",
        True,
    ),
    "S3, one part": ({**S3, "ETag": f'"{digest("md5").hex}"'}, "md5", "ETag", True),
    "S3, parts of 5 MiB": ({**S3, "ETag": f'"{etag_of(BODY, 5 * MIB)}"'}, "s3-etag", "ETag", True),
    "S3, parts of 8 MiB": ({**S3, "ETag": f'"{etag_of(BODY, 8 * MIB)}"'}, "s3-etag", "ETag", True),
    **{
        f"S3, {name}": ({f"x-amz-checksum-{name}": base64_of(name)}, name, f"x-amz-checksum-{name}", False)
        for name in ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")
    },
}


@pytest.mark.parametrize("concurrency", MODES)
@pytest.mark.parametrize("kind", DECLARATIONS)
def test_every_kind_of_header(
    session: getm.Session, fault_server: FaultServer, kind: str, concurrency: int | None
) -> None:
    declared, algorithm, source, on_ranges = DECLARATIONS[kind]
    headers = {"ETag": '"v1"', **declared}
    etag = str(headers.pop("ETag"))
    good = fault_server.serve("/good", Reply(body=BODY, etag=etag, headers=headers))
    wrong = fault_server.serve("/wrong", Reply(body=BODY, etag=etag, headers=headers, flip_bit=9 * MIB * 8 + 3))
    verdict = verdict_of(session, good, concurrency)
    assert any(request.header("Range") for request in fault_server.requests) == (concurrency == 4)
    if concurrency == 4 and not on_ranges:
        assert not verdict.verified and source.lower() in str(verdict.reason).lower()
        assert "range" in str(verdict.reason)
        return
    assert told(verdict) == (algorithm, source)
    if algorithm == "s3-etag":
        with pytest.raises(getm.errors.Unverified), session.urlopen(wrong, concurrency=concurrency, strict=True) as fh:
            fh.read()
        return
    with pytest.raises(getm.ChecksumMismatch) as caught, session.urlopen(wrong, concurrency=concurrency) as fh:
        fh.read()
    assert (caught.value.algorithm, caught.value.source) == (algorithm, source)
    assert caught.value.expected == str(verdict.checksum) != caught.value.actual
    assert caught.value.url == wrong


@pytest.mark.parametrize("concurrency", MODES)
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_what_nginx_declares(nginx: NginxServer, make_object: Make, tls: bool, concurrency: int | None) -> None:
    served = make_object(17 * MIB + 5, seed=4)
    declared = {
        "goog_hash": (f"crc32c={served.crc32c_base64}", "crc32c", "x-goog-hash"),
        "goog_hash2": (f"md5={served.md5_base64}", "md5", "x-goog-hash"),
        "repr_digest": (f"sha-256=:{served.sha256_base64}:", "sha256", "Repr-Digest"),
        "digest": (f"SHA-256={served.sha256_base64}", "sha256", "Digest"),
        "ms_md5": (served.md5_base64, "md5", "x-ms-blob-content-md5"),
        "sha256": (served.sha256_hex, "sha256", "x-checksum-sha256"),
    }
    with getm.Session(cacert=nginx.ca_path) as session:
        for argument, (value, algorithm, source) in declared.items():
            url = nginx.declared_url(served, tls=tls, etag="v1", **{argument: value})
            assert told(verdict_of(session, url, concurrency, served.read())) == (algorithm, source)
            other = nginx.declared_url(make_object(17 * MIB + 5, seed=5), tls=tls, etag="v1", **{argument: value})
            with pytest.raises(getm.ChecksumMismatch):
                session.read(other, concurrency=concurrency)


# Row 34 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", MODES)
@pytest.mark.parametrize(
    "algorithm",
    ["md5", "sha1", "sha224", "sha256", "sha384", "sha512", "crc32", "crc32c", "crc64nvme", "blake3", "xxh3-128"],
)
def test_row_34_one_flipped_bit_anywhere_whatever_the_algorithm(
    session: getm.Session, fault_server: FaultServer, algorithm: str, concurrency: int | None
) -> None:
    expected = str(digest(algorithm))
    good = fault_server.serve("/good", Reply(body=BODY))
    with session.urlopen(good, concurrency=concurrency, checksum=expected) as fh:
        assert fh.read() == BODY
        assert told(fh.checksum) == (algorithm, "caller")
    for bit in (0, 8 * MIB * 8, len(BODY) * 8 - 1):  # the first of the object, of the second part, and the last
        wrong = fault_server.serve("/wrong", Reply(body=BODY, flip_bit=bit))
        with pytest.raises(getm.ChecksumMismatch) as caught:
            session.read(wrong, concurrency=concurrency, checksum=expected)
        assert (caught.value.source, caught.value.expected) == ("caller", expected)


# Row 39: any order ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["md5", "sha256", "crc32", "crc32c", "crc64nvme"])
def test_row_39_parts_taken_in_any_order_are_verified(
    session: getm.Session, fault_server: FaultServer, algorithm: str
) -> None:
    """The first part comes last: MD5 and SHA wait for their order, CRCs are combined."""
    gate = fault_server.gate()

    def held_first(flip_bit: int | None) -> Callable[[Request], Reply]:
        def reply(request: Request) -> Reply:
            asked = request.header("Range")
            if asked is not None and asked.startswith("bytes=0-"):
                return Reply(body=BODY, stall_at=MIB, gate=gate, flip_bit=flip_bit)
            return Reply(body=BODY, flip_bit=flip_bit)

        return reply

    offsets: list[int] = []
    placed = bytearray(len(BODY))
    url = fault_server.serve("/good", held_first(None))
    with session.iter_content_unordered(url, concurrency=4, checksum=str(digest(algorithm))) as parts:
        for offset, part in parts:
            offsets.append(offset)
            placed[offset : offset + len(part)] = part
            if offset >= 16 * MIB:
                gate.open()
        verdict = parts.checksum
    assert placed == BODY
    assert offsets != sorted(offsets)
    assert told(verdict) == (algorithm, "caller")
    wrong = fault_server.serve("/wrong", held_first(12 * MIB * 8))
    with pytest.raises(getm.ChecksumMismatch):
        for _ in session.iter_content_unordered(wrong, concurrency=4, checksum=str(digest(algorithm))):
            pass


# Rows 15 and 16: content codings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", MODES)
def test_row_15_a_content_coding_although_identity_was_asked(
    session: getm.Session, fault_server: FaultServer, concurrency: int | None
) -> None:
    """The raw bytes arrive, the response's headers say that they are coded, and digests of the coded body count."""
    coded = gzip.compress(BODY, compresslevel=1, mtime=0)
    headers: Headers = {
        "Content-Encoding": "gzip",
        "Repr-Digest": f"sha-256=:{base64_of('sha256', coded)}:",
        "Digest": f"id-sha-256={base64_of('sha256')}",  # of the bytes without coding: must not be compared
    }
    url = fault_server.serve("/good", Reply(body=coded, headers=headers))
    with session.urlopen(url, concurrency=concurrency, strict=True) as fh:
        assert fh.headers["Content-Encoding"] == "gzip"
        assert fh.content_coding == "gzip"
        assert fh.read() == coded
        assert told(fh.checksum) == ("sha256", "Repr-Digest")
    assert {request.header("Accept-Encoding") for request in fault_server.requests} == {"identity"}
    wrong = fault_server.serve("/wrong", Reply(body=coded, headers=headers, flip_bit=MIB))
    with pytest.raises(getm.ChecksumMismatch):
        session.read(wrong, concurrency=concurrency)


@pytest.mark.parametrize("concurrency", MODES)
def test_gzip_of_nginx_although_identity_was_asked(
    session: getm.Session, nginx: NginxServer, make_object: Make, concurrency: int | None
) -> None:
    served = make_object(3 * MIB + 1, seed=6)
    coded = nginx.objects.add_gzip(served)
    url = nginx.url(served, via="gzip-always")
    with session.urlopen(url, concurrency=concurrency, checksum=str(digest("sha256", coded))) as fh:
        assert fh.headers["content-encoding"] == "gzip"
        assert fh.read() == coded
        assert told(fh.checksum) == ("sha256", "caller")


@pytest.mark.parametrize("concurrency", MODES)
def test_row_16_gcs_decompressive_transcoding(
    session: getm.Session, fault_server: FaultServer, concurrency: int | None
) -> None:
    """The stored gzip was decoded on the way: its hash is skipped and said to be; strict mode fails (row 16)."""
    stored = gzip.compress(BODY, compresslevel=1, mtime=0)
    headers: Headers = {
        "x-goog-stored-content-encoding": "gzip",
        "x-goog-stored-content-length": str(len(stored)),
        "x-goog-hash": [f"crc32c={base64_of('crc32c', stored)}", f"md5={base64_of('md5', stored)}"],
        "Warning": "214 UploadServer gunzipped",
    }
    transcoded = Reply(body=BODY, headers=headers, etag=None, framing="chunked", ranges=False)
    url = fault_server.serve("/object", transcoded)
    verdict = verdict_of(session, url, concurrency)
    assert not verdict.verified
    assert "x-goog-hash was skipped" in str(verdict.reason) and "transcoded" in str(verdict.reason)
    with pytest.raises(getm.errors.Unverified, match="transcoded"):
        session.read(url, concurrency=concurrency, strict=True)
    as_stored = fault_server.serve("/stored", Reply(body=stored, headers={**headers, "Content-Encoding": "gzip"}))
    assert told(verdict_of(session, as_stored, concurrency, stored)) == ("md5", "x-goog-hash")


# Rows 35 to 38 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", MODES)
def test_row_35_an_s3_layout_that_cannot_be_found(
    session: getm.Session, fault_server: FaultServer, concurrency: int | None
) -> None:
    etag = f'"{etag_of(BODY, 5 * MIB + 4321)}"'
    url = fault_server.serve("/object", Reply(body=BODY, headers=S3, etag=etag))
    verdict = verdict_of(session, url, concurrency)
    assert not verdict.verified and verdict.mismatch is None
    assert "part size" in str(verdict.reason)


@pytest.mark.parametrize("concurrency", MODES)
def test_row_36_s3_checksums_of_parts_and_on_ranges_are_ignored(
    session: getm.Session, fault_server: FaultServer, concurrency: int | None
) -> None:
    """Row 36. They are those of other bytes here, so that believing them would be an error."""
    other = base64_of("crc32c", b"a part")
    composite: Headers = {
        "x-amz-checksum-crc32c": f"{other}-3",
        "x-amz-checksum-sha256": base64_of("sha256", b""),
        "x-amz-checksum-type": "COMPOSITE",
    }
    url = fault_server.serve("/composite", Reply(body=BODY, headers=composite))
    verdict = verdict_of(session, url, concurrency)
    assert not verdict.verified and "x-amz-checksum-crc32c" in str(verdict.reason)
    if concurrency == 4:
        url = fault_server.serve("/ranged", Reply(body=BODY, headers={"x-amz-checksum-crc32c": other}))
        verdict = verdict_of(session, url, concurrency)
        assert not verdict.verified and "range" in str(verdict.reason)


@pytest.mark.parametrize("concurrency", MODES)
def test_row_37_the_callers_checksum_wins(
    session: getm.Session, fault_server: FaultServer, concurrency: int | None
) -> None:
    """Row 37: whatever the server says."""
    lying: Headers = {"Repr-Digest": f"sha-256=:{base64_of('sha256', b'')}:", "Content-MD5": base64_of("md5", b"")}
    url = fault_server.serve("/object", Reply(body=BODY, headers=lying))
    with session.urlopen(url, concurrency=concurrency, checksum=digest("crc32c")) as fh:
        assert fh.read() == BODY
        assert told(fh.checksum) == ("crc32c", "caller")
    with pytest.raises(getm.ChecksumMismatch) as caught:
        session.read(url, concurrency=concurrency, checksum=digest("md5", b"something else"))
    assert caught.value.source == "caller"
    with pytest.raises(getm.ChecksumMismatch) as caught:
        session.read(url, concurrency=concurrency)
    assert caught.value.source == "Repr-Digest"


@pytest.mark.parametrize("concurrency", MODES)
def test_row_37_declarations_that_contradict_each_other(
    session: getm.Session, fault_server: FaultServer, concurrency: int | None
) -> None:
    """Row 37: nothing tells which is right, so neither counts; another algorithm still does."""
    conflict: Headers = {
        "x-checksum-md5": digest("md5", b"other").hex,
        "x-goog-hash": [f"md5={base64_of('md5')}", f"crc32c={base64_of('crc32c')}"],
    }
    url = fault_server.serve("/object", Reply(body=BODY, headers=conflict))
    assert told(verdict_of(session, url, concurrency)) == ("crc32c", "x-goog-hash")
    conflict["x-goog-hash"] = f"md5={base64_of('md5')}"
    url = fault_server.serve("/object", Reply(body=BODY, headers=conflict))
    verdict = verdict_of(session, url, concurrency)
    assert not verdict.verified and "different md5 values" in str(verdict.reason)


@pytest.mark.parametrize("concurrency", MODES)
def test_row_37_malformed_declarations_are_skipped_by_name(
    session: getm.Session, fault_server: FaultServer, concurrency: int | None
) -> None:
    malformed: Headers = {
        "Repr-Digest": "sha-256=:not base64:, sha-512=17",
        "x-goog-hash": "md5=AAAA,crc32c",
        "x-checksum-sha1": "tomorrow",
        "x-ms-blob-content-md5": "=",
    }
    url = fault_server.serve("/object", Reply(body=BODY, headers=malformed))
    verdict = verdict_of(session, url, concurrency)
    assert not verdict.verified
    for name in malformed:
        assert name in str(verdict.reason)
    # One that is well-formed is used beside them.
    url = fault_server.serve("/object", Reply(body=BODY, headers={**malformed, "x-checksum-md5": digest("md5").hex}))
    assert told(verdict_of(session, url, concurrency)) == ("md5", "x-checksum-md5")


@pytest.mark.parametrize("concurrency", MODES)
def test_row_38_hugging_face(session: getm.Session, fault_server: FaultServer, concurrency: int | None) -> None:
    """Row 38: the linked etag of the redirect is the file's sha256; the CDN's own ETag looks like an MD5 and is not."""
    with FaultServer() as cdn:
        cdn_headers: Headers = {**S3, "Server": "AmazonS3"}
        body = cdn.serve("/blob", Reply(body=BODY, etag=f'"{"0" * 32}"', headers=cdn_headers))
        wrong = cdn.serve("/wrong", Reply(body=BODY, etag=f'"{"0" * 32}"', headers=cdn_headers, flip_bit=8))

        def linked(location: str) -> Reply:
            return redirect(location, X_Linked_Etag=f'"{digest("sha256").hex}"', X_Linked_Size=str(len(BODY)))

        url = fault_server.serve("/resolve/main/model", linked(body))
        assert told(verdict_of(session, url, concurrency)) == ("sha256", "X-Linked-Etag")
        fault_server.serve("/resolve/main/model", linked(wrong))
        with pytest.raises(getm.ChecksumMismatch) as caught:
            session.read(url, concurrency=concurrency)
        assert caught.value.source == "X-Linked-Etag"


# What the caller asked for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", MODES)
def test_no_checksum_means_none(session: getm.Session, fault_server: FaultServer, concurrency: int | None) -> None:
    headers: Headers = {"Repr-Digest": f"sha-256=:{base64_of('sha256', b'')}:"}
    url = fault_server.serve("/object", Reply(body=BODY, headers=headers))
    with session.urlopen(url, concurrency=concurrency, checksum=None) as fh:
        assert fh.read() == BODY
        assert not fh.checksum.verified and "no verification was asked for" in str(fh.checksum.reason)


@pytest.mark.parametrize("concurrency", MODES)
def test_strict_says_why(session: getm.Session, fault_server: FaultServer, concurrency: int | None) -> None:
    conflict: Headers = {"x-checksum-md5": digest("md5", b"other").hex, "x-goog-hash": f"md5={base64_of('md5')}"}
    url = fault_server.serve("/object", Reply(body=BODY, headers=conflict))
    with pytest.raises(getm.errors.Unverified, match="different md5 values"):
        session.read(url, concurrency=concurrency, strict=True)
    with pytest.raises(getm.errors.Unverified, match="no verification was asked for"):
        session.read(url, concurrency=concurrency, checksum=None, strict=True)


@pytest.mark.parametrize("concurrency", MODES)
def test_row_37_what_is_malformed_is_warned_of_though_another_declaration_serves(
    session: getm.Session, fault_server: FaultServer, concurrency: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    declared: Headers = {"Repr-Digest": "sha-256=17", "x-checksum-md5": digest("md5", BODY).hex}
    url = fault_server.serve("/object", Reply(body=BODY, headers=declared))
    with caplog.at_level(logging.WARNING, "getm"), session.urlopen(url + "?sig=s", concurrency=concurrency) as fh:
        assert fh.read() == BODY
        assert fh.checksum.source == "x-checksum-md5"
    assert "Repr-Digest" in caplog.text
    assert url in caplog.text and "sig=" not in caplog.text


@pytest.mark.parametrize("concurrency", MODES)
def test_strict_refuses_before_the_first_byte(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path, concurrency: int | None
) -> None:
    url = fault_server.serve("/object", Reply(body=BODY))
    with pytest.raises(getm.errors.Unverified, match="declared no checksum") as caught:
        session.urlopen(url, concurrency=concurrency, strict=True)
    assert caught.value.url == url and "no checksum" in caught.value.reason
    with pytest.raises(getm.errors.Unverified):
        session.download(url, tmp_path / "out", concurrency=concurrency, strict=True)
    assert names(tmp_path) == []
    result = session.download(url, tmp_path / "out", concurrency=concurrency, strict=True, checksum=digest("crc32c"))
    assert result.verified and result.path.read_bytes() == BODY


@pytest.mark.parametrize("concurrency", MODES)
@pytest.mark.parametrize("size_bytes", [0, 1, MIB])
def test_small_objects(
    session: getm.Session, fault_server: FaultServer, size_bytes: int, concurrency: int | None
) -> None:
    body = BODY[:size_bytes]
    url = fault_server.serve("/object", Reply(body=body, headers={"Repr-Digest": f"md5=:{base64_of('md5', body)}:"}))
    assert told(verdict_of(session, url, concurrency, body)) == ("md5", "Repr-Digest")
    wrong = fault_server.serve("/wrong", Reply(body=body, headers={"Repr-Digest": f"md5=:{base64_of('md5')}:"}))
    with pytest.raises(getm.ChecksumMismatch):
        session.read(wrong, concurrency=concurrency)


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command_tells_what_verified(tmp_path: Path, fault_server: FaultServer) -> None:
    headers: Headers = {"Content-MD5": base64_of("md5")}
    url = fault_server.serve("/object", Reply(body=BODY, headers=headers))
    for arguments, words in (
        ([url], f"verified: md5:{digest('md5').hex} (from Content-MD5)"),
        ([url, "--checksum", str(digest("sha256"))], f"verified: {digest('sha256')} (from caller)"),
        ([url, "--checksum", "none"], "not verified: checksum=None: no verification was asked for"),
        ([url, "-x", "4"], "not verified: the server declared no usable checksum: Content-MD5 was skipped"),
    ):
        run = command(*arguments, "-o", "out", "-v", cwd=tmp_path)
        assert (run.returncode, run.stderr) == (0, b"")
        assert words in run.stdout.decode()
        assert (tmp_path / "out").read_bytes() == BODY


def test_an_old_manifest_with_every_algorithm(tmp_path: Path, fault_server: FaultServer) -> None:
    """A multipart `s3_etag` crashed getm 0.0.x; base64 Content-MD5 was compared with hex."""
    url = fault_server.serve("/object", Reply(body=BODY, headers={"Content-MD5": base64_of("md5")}))
    pairs = {
        "parts": ("s3_etag", etag_of(BODY, 8 * MIB)),
        "quoted": ("s3_etag", f'"{etag_of(BODY, 5 * MIB)}"'),
        "single": ("s3_etag", digest("md5").hex),
        "odd": ("s3_etag", etag_of(BODY, 5 * MIB + 4321)),
        "md5": ("md5", digest("md5").hex),
        "crc": ("gs_crc32c", base64_of("crc32c")),
        "null": ("null", None),
    }
    entries = [
        {"url": url, "filepath": name, "checksum": value, "checksum-algorithm": algorithm}
        for name, (algorithm, value) in pairs.items()
    ]
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    (tmp_path / "out").mkdir()
    run = command("--manifest", "../manifest.json", "-v", cwd=tmp_path / "out")
    assert (run.returncode, run.stderr) == (0, b"")
    assert names(tmp_path / "out") == sorted(pairs)
    assert all((tmp_path / "out" / name).read_bytes() == BODY for name in pairs)
    lines = [line for line in run.stdout.decode().splitlines() if "bytes in" in line]
    assert len(lines) == len(pairs)
    for name in pairs:
        (line,) = [line for line in lines if f" {name}: " in line]
        assert ("not verified" in line) == (name == "odd")
    # Without a word from the manifest, what the server declares counts.
    (line,) = [line for line in lines if " null: " in line]
    assert "from Content-MD5" in line


def test_a_wrong_multipart_etag_in_a_manifest_with_strict(tmp_path: Path, fault_server: FaultServer) -> None:
    url = fault_server.serve("/object", Reply(body=BODY, flip_bit=77))
    entry = {"url": url, "filepath": "out", "checksum": etag_of(BODY, 8 * MIB), "checksum-algorithm": "s3_etag"}
    (tmp_path / "manifest.json").write_text(json.dumps([entry]))
    run = command("--manifest", "manifest.json", "--strict", cwd=tmp_path)
    assert run.returncode == 9
    assert failure(run)["error"] == "unverified"
    assert names(tmp_path) == ["manifest.json"]


@pytest.mark.parametrize("form", [base64.b64encode, bytes.hex], ids=["base64", "hex"])
def test_content_md5_in_either_writing(
    tmp_path: Path, fault_server: FaultServer, form: Callable[[bytes], str | bytes]
) -> None:
    written = form(hashlib.md5(BODY).digest())
    value = written.decode() if isinstance(written, bytes) else written
    url = fault_server.serve("/object", Reply(body=BODY, headers={"Content-MD5": value}))
    assert command(url, "out", "--strict", cwd=tmp_path).returncode == 0
    assert (tmp_path / "out").read_bytes() == BODY
    wrong = fault_server.serve("/object", Reply(body=BODY, headers={"Content-MD5": value}, flip_bit=99))
    run = command(wrong, "other", cwd=tmp_path)
    assert (run.returncode, failure(run)["source"]) == (9, "Content-MD5")
    assert names(tmp_path) == ["out"]


def test_several_checksums_must_all_match(
    session: getm.Session, nginx: NginxServer, make_object: Callable[..., ServedObject], tmp_path: Path
) -> None:
    served = make_object(3 * MIB + 1)
    both = [f"md5:{served.md5_hex}", f"sha256:{served.sha256_hex}"]
    for concurrency in (1, 3, None):
        with session.urlopen(nginx.url(served), checksum=both, concurrency=concurrency) as fh:
            assert fh.read() == served.read()
            assert sorted(each.algorithm for each in fh.checksum.computed) == ["md5", "sha256"]
        with pytest.raises(getm.ChecksumMismatch, match="md5"):
            session.read(nginx.url(served), checksum=[f"md5:{'0' * 32}", both[1]], concurrency=concurrency)
    (result,) = session.download_all([getm.Entry(nginx.url(served), "x", checksum=both)], directory=tmp_path)
    assert isinstance(result, getm.DownloadResult)
    assert len(result.checksum.computed) == 2
    for wrong in ([], 0, 7, [3], b"md5:"):
        with pytest.raises(getm.InvalidInput, match="checksum must be"):
            session.urlopen(nginx.url(served), checksum=wrong)  # type: ignore[arg-type]
