"""Amazon S3 as moto imitates it: a server in a process of its own, filled by boto3 as any user would."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
from botocore.config import Config

from tests.support.program_server import ProgramServer

BUCKET = "bucket"
CREDENTIALS = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "not-a-secret"}
REGION = "us-east-1"

_PROGRAM = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
from moto.s3.models import s3_backends
store = s3_backends["123456789012"]["aws"]
store.create_bucket("many", "us-east-1")
for number in range(int(sys.argv[1])):
    store.put_object("many", f"in/{number % 10}/{number:05}.bin", b"content")
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@contextlib.contextmanager
def s3_client(endpoint: str) -> Iterator[Any]:
    """boto3's client for an endpoint: Signature Version 4, no retries, its connections closed at the end."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
        **CREDENTIALS,
    )
    with contextlib.closing(client):
        yield client


class S3Server(ProgramServer):
    """moto with one bucket. `folder` takes its log. `many`: so many small objects are in a bucket of that name."""

    def __init__(self, folder: Path, *, many: int = 0) -> None:
        # Nothing of the developer's own account.
        super().__init__(_PROGRAM, str(many), folder / "moto.log", without=("AWS_",))

    def _prepare(self) -> None:
        with s3_client(self.endpoint) as client:
            client.create_bucket(Bucket=BUCKET)

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which a program finds this store, and nothing of the developer's own account."""
        return {
            **{name.upper(): value for name, value in CREDENTIALS.items()},
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def put(self, key: str, content: bytes, **options: str) -> str:
        """Upload by one PutObject; the key."""
        with s3_client(self.endpoint) as client:
            client.put_object(Bucket=BUCKET, Key=key, Body=content, **options)
        return key

    def upload(self, key: str, content: bytes, part_bytes: int, algorithm: str = "", kind: str = "") -> str:
        """Upload in parts of `part_bytes`, with the additional checksum `algorithm` ("CRC32C") of `kind` ("COMPOSITE",
        "FULL_OBJECT") if one is given; the key."""
        chosen = {"ChecksumAlgorithm": algorithm} if algorithm else {}
        asked = chosen | ({"ChecksumType": kind} if kind else {})
        with s3_client(self.endpoint) as client:
            upload = client.create_multipart_upload(Bucket=BUCKET, Key=key, **asked)["UploadId"]
            target = {"Bucket": BUCKET, "Key": key, "UploadId": upload}
            done = []
            for number, start in enumerate(range(0, len(content), part_bytes), 1):
                part = content[start : start + part_bytes]
                reply = client.upload_part(**target, PartNumber=number, Body=part, **chosen)
                facts = {name: value for name, value in reply.items() if name.startswith("Checksum")}
                done.append({"PartNumber": number, "ETag": reply["ETag"], **facts})
            client.complete_multipart_upload(**target, MultipartUpload={"Parts": done})
        return key

    def presigned(self, key: str, *, checksum_mode: bool) -> str:
        """A URL signed for GET; with `checksum_mode` its signature covers "x-amz-checksum-mode: ENABLED"."""
        with s3_client(self.endpoint) as client:
            return presign(client, key, checksum_mode=checksum_mode)


def presign(client: Any, key: str, *, checksum_mode: bool) -> str:
    """What boto3 makes of a key; no request is sent."""
    wanted = {"Bucket": BUCKET, "Key": key} | ({"ChecksumMode": "ENABLED"} if checksum_mode else {})
    url: str = client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=600)
    return url
