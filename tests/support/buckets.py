"""Buckets that tests fill: of emulators, and real ones of the developer's, by the vendors' own clients."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.google_emulator import GoogleEmulator
from tests.support.identity import IdentityServer
from tests.support.s3_server import BUCKET, S3Server

SCRIPTS = Path(__file__).parents[2] / "dev_scripts"
# Below which the objects of tests are, in buckets that may have others.
_PREFIX = "getm-tests"


@dataclass(frozen=True)
class TestBucket:
    """A bucket that is filled. `scheme`: "s3" or "gs"; `variables`: of the environment, by which its objects are found;
    `is_real`: at the vendor."""

    __test__ = False

    scheme: str
    bucket: str
    variables: Mapping[str, str]
    is_real: bool

    def name(self, key: str) -> str:
        return f"{self.scheme}://{self.bucket}/{_PREFIX}/{key}"

    def signed(self, *keys: str) -> list[str]:
        """URLs by the script that signs."""
        return self.script(f"sign_{self.scheme}.py", *map(self.name, keys)).splitlines()

    def script(self, script: str, *arguments: str) -> str:
        """What one of dev_scripts prints."""
        run = subprocess.run(
            [sys.executable, SCRIPTS / script, *arguments],
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    def fill(self, objects: Mapping[str, bytes]) -> None:
        """Put these objects in place of what was there."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.variables.items():
                patch.setenv(name, value)
            {"s3": _fill_s3, "gs": _fill_gs}[self.scheme](self.bucket, objects)


@contextlib.contextmanager
def open_bucket(kind: str, folder: Path) -> Iterator[TestBucket]:
    """The bucket of an emulator ("moto", "emulator"), or that of the developer ("s3", "gs"), without which the test is
    skipped."""
    match kind:
        case "moto":
            with S3Server(folder) as server:
                yield TestBucket("s3", BUCKET, server.environment, False)
        case "emulator":
            with GoogleEmulator(folder, BUCKET) as emulator, IdentityServer() as identity:
                account = str(identity.service_account(folder / "account.json"))
                variables = {
                    "STORAGE_EMULATOR_HOST": emulator.endpoint,
                    "GETM_GOOGLE_APPLICATION_CREDENTIALS": account,
                    "GOOGLE_CLOUD_PROJECT": "lab",
                }
                yield TestBucket("gs", BUCKET, variables, False)
        case "s3":
            yield TestBucket("s3", _given("GETM_S3_TEST_BUCKET", "the name of a bucket that tests may fill"), {}, True)
        case _:
            bucket = _given("GETM_GS_TEST_BUCKET", "the name of a bucket that tests may fill")
            account = _given("GETM_GOOGLE_APPLICATION_CREDENTIALS", "the file of a service account that may fill it")
            yield TestBucket("gs", bucket, {"GOOGLE_APPLICATION_CREDENTIALS": account}, True)


def _given(variable: str, what: str) -> str:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"set {variable} to {what}")
    return value


def _fill_s3(bucket: str, objects: Mapping[str, bytes]) -> None:
    import boto3  # type: ignore[import-untyped]
    from boto3.s3.transfer import TransferConfig  # type: ignore[import-untyped]

    config = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20, use_threads=False)
    with contextlib.closing(boto3.client("s3")) as client:
        for key, body in objects.items():
            client.upload_fileobj(io.BytesIO(body), bucket, f"{_PREFIX}/{key}", Config=config)


def _fill_gs(bucket: str, objects: Mapping[str, bytes]) -> None:
    from google.cloud.storage import Client

    client: Any = Client()
    for key, body in objects.items():
        client.bucket(bucket).blob(f"{_PREFIX}/{key}").upload_from_file(io.BytesIO(body), size=len(body))
    client.close()
