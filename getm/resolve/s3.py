"""`s3://BUCKET/KEY`: objects in Amazon S3, and in servers that speak its protocol, by presigned URLs.

Credentials, profiles, single sign-on, endpoints and signatures are botocore's business: everything that its variables
and files say (AWS_PROFILE, AWS_ENDPOINT_URL_S3, ~/.aws/config, ...) holds here, too. Without credentials requests are
not signed.
"""

from __future__ import annotations

import os
import re
import threading
from typing import Any

from getm.core.lazy import importing
from getm.errors import InvalidInput, MissingExtra
from getm.resolve.resource import Resource

# How long a signature lasts. The credentials behind it may end before.
_LIFETIME_S = 3600

# The bucket is a name or the ARN of an access point (Amazon S3 User Guide, "Access points"), and the key is anything: a
# name is no URL, so nothing in it is encoded.
_NAME = re.compile(r"s3://(arn:[^/]+(?:[:/])[^/]+|[^/]+)/(.+)", re.IGNORECASE | re.DOTALL)
_VERSION = re.compile(r"(.+)\?versionId=([^?&]+)", re.DOTALL)

_lock = threading.Lock()
_clients: dict[tuple[object, ...], Any] = {}
# Of buckets at Amazon: nobody else has regions that could be wrong.
_regions: dict[tuple[object, ...], str | None] = {}


def resolve(
    name: str,
    *,
    profile: str | None = None,
    endpoint_url: str | None = None,
    anonymous: bool | None = None,
    requester_pays: bool | None = None,
) -> Resource:
    """Amazon S3 and servers like it: s3://BUCKET/KEY, s3://BUCKET/KEY?versionId=ID.

    Args:
        name: The name. A bucket may be the ARN of an access point.
        profile: Of the AWS configuration; None: $AWS_PROFILE, or else the default one.
        endpoint_url: Of a server that speaks the protocol; None: as the AWS configuration says.
        anonymous: Do not sign; None: where $AWS_NO_SIGN_REQUEST says so, or there are no credentials.
        requester_pays: Pay for the transfer; None: where $AWS_REQUEST_PAYER is "requester".

    Returns:
        A URL that is valid for an hour, or as long as the credentials.

    Raises:
        InvalidInput: It is no such name.
        MissingExtra: botocore is not installed.

    Example:
        >>> data = getm.read(functools.partial(getm.resolve.s3.resolve, "s3://bucket/reads.bam", profile="lab"))
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise InvalidInput("expected s3://BUCKET/KEY")
    bucket, key = found.groups()
    parameters = {"Bucket": bucket, "Key": key, "ChecksumMode": "ENABLED"}
    if version := _VERSION.fullmatch(key):
        parameters |= {"Key": version[1], "VersionId": version[2]}
    headers = {}
    if _chosen(requester_pays, "AWS_REQUEST_PAYER", ("requester",)):
        parameters["RequestPayer"] = headers["x-amz-request-payer"] = "requester"
    unsigned = _chosen(anonymous, "AWS_NO_SIGN_REQUEST", ("1", "yes", "true"))
    client = _client(profile, endpoint_url, unsigned, None)
    if not bucket.startswith("arn:") and (region := _region(client, bucket)) is not None:
        client = _client(profile, endpoint_url, unsigned, region)
    url = client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=_LIFETIME_S)
    return Resource(url, headers=headers)


def _chosen(given: bool | None, variable: str, values: tuple[str, ...]) -> bool:
    return os.environ.get(variable, "").lower() in values if given is None else given


def _client(profile: str | None, endpoint_url: str | None, unsigned: bool, region: str | None) -> Any:
    """botocore's client: making one takes a while, and any thread may use it."""
    try:
        with importing:
            import botocore.session
            from botocore import UNSIGNED
            from botocore.config import Config
    except ImportError as error:
        raise MissingExtra(f's3:// needs botocore: pip install "getm[s3]" ({error})') from error
    # Whatever the environment says: a program may change it.
    chosen = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    known = profile, endpoint_url, unsigned, region, tuple(sorted(chosen.items()))
    with _lock:
        if known not in _clients:
            session = botocore.session.Session(profile=profile)
            is_signed = not unsigned and session.get_credentials() is not None
            style = session.get_scoped_config().get("s3", {}).get("addressing_style")
            if style is None and region is not None:
                # At the region's own host: the global one, which is signed for otherwise, redirects to it.
                style = "virtual"
            config = Config(
                signature_version="s3v4" if is_signed else UNSIGNED,
                s3=None if style is None else {"addressing_style": style},
            )
            region = region or session.get_config_variable("region") or "us-east-1"
            _clients[known] = session.create_client("s3", region_name=region, endpoint_url=endpoint_url, config=config)
        return _clients[known]


def _region(client: Any, bucket: str) -> str | None:
    """Where the bucket is, which Amazon says to anybody (HeadBucket, response headers); None where it does not."""
    if not client.meta.endpoint_url.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return None
    known = client.meta.endpoint_url, bucket
    if known not in _regions:
        from botocore.exceptions import ClientError

        try:
            answer = client.head_bucket(Bucket=bucket)
        except ClientError as error:
            answer = error.response
        _regions[known] = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
    return _regions[known]
