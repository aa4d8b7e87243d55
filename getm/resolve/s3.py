"""`s3://BUCKET/KEY`: objects in Amazon S3, and in servers that speak its protocol, by presigned URLs.

Who signs, and how, `clouds/aws.py` has from botocore. Without credentials requests are not signed.
"""

from __future__ import annotations

import re

from getm.clouds.aws import S3Clients
from getm.clouds.variables import chosen
from getm.errors import InvalidInput
from getm.resolve.resource import Resource

# How long a signature lasts. The credentials behind it may end before.
_LIFETIME_S = 3600

# The bucket is a name or the ARN of an access point (Amazon S3 User Guide, "Access points"), and the key is anything: a
# name is no URL, so nothing in it is encoded.
_NAME = re.compile(r"s3://(arn:[^/]+(?:[:/])[^/]+|[^/]+)/(.+)", re.IGNORECASE | re.DOTALL)
_VERSION = re.compile(r"(.+)\?versionId=([^?&]+)", re.DOTALL)

_clients = S3Clients()


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
    if chosen(requester_pays, "AWS_REQUEST_PAYER", ("requester",)):
        parameters["RequestPayer"] = headers["x-amz-request-payer"] = "requester"
    client = _clients.of(bucket, profile=profile, endpoint_url=endpoint_url, anonymous=anonymous)
    url = client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=_LIFETIME_S)
    return Resource(url, headers=headers)
