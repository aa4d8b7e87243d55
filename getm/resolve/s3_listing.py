"""What a bucket has, by ListObjectsV2: botocore makes the requests, as the AWS configuration says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from getm.clouds.aws import S3Clients
from getm.clouds.variables import chosen
from getm.core.text import brief
from getm.errors import HTTPStatusError, InvalidInput
from getm.resolve.listing import EndOfPages, ListedObject, ListRequest

_PREFIX = re.compile(r"(s3://(arn:[^/]+(?:[:/])[^/]+|[^/]+)/)(.*)", re.IGNORECASE | re.DOTALL)

_clients = S3Clients()


def list_objects(
    request: ListRequest,
    *,
    profile: str | None = None,
    endpoint_url: str | None = None,
    anonymous: bool | None = None,
    requester_pays: bool | None = None,
) -> Iterator[ListedObject]:
    """Objects of a bucket or an access point, with their sizes.

    An ETag is no checksum here: that of an encrypted object is none of its content, and a listing does not say which
    ones are. The response to the download does.

    Args:
        request: What is asked for.
        profile: See `getm.resolve.s3.resolve`.
        endpoint_url: Likewise.
        anonymous: Likewise.
        requester_pays: Likewise.

    Yields:
        Objects by their keys in ascending order (UTF-8), and folders: what keys have in common up to a slash.

    Raises:
        InvalidInput: The prefix names no bucket.
        HTTPStatusError: The store refused.
        MissingExtra: botocore is not installed.
    """
    found = _PREFIX.fullmatch(request.prefix)
    if found is None:
        raise InvalidInput("expected s3://BUCKET/PREFIX")
    root, bucket, prefix = found.groups()
    client = _clients.of(bucket, profile=profile, endpoint_url=endpoint_url, anonymous=anonymous)
    parameters: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
    if not request.recursive:
        parameters["Delimiter"] = "/"
    if chosen(requester_pays, "AWS_REQUEST_PAYER", ("requester",)):
        parameters["RequestPayer"] = "requester"
    for page in _pages(client, parameters):
        for folder in page.get("CommonPrefixes", ()):
            yield ListedObject(root + folder["Prefix"], is_folder=True)
        for row in page.get("Contents", ()):
            key, size = row["Key"], row["Size"]
            # What ends with a slash and is empty is what consoles make of a folder.
            if not (key.endswith("/") and size == 0):
                etag = row.get("ETag", "").strip('"') or None
                yield ListedObject(root + key, size, row.get("LastModified"), version=etag)


def _pages(client: Any, parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    end = EndOfPages()
    while True:
        try:
            page = client.list_objects_v2(**parameters)
        except Exception as error:
            raise _explained(error) from error
        yield page
        token = page.get("NextContinuationToken")
        if not page.get("IsTruncated") or token is None:
            return
        end.check(token, is_empty=not (page.get("Contents") or page.get("CommonPrefixes")))
        parameters = {**parameters, "ContinuationToken": token}


def _explained(error: Exception) -> Exception:
    """An error of botocore's as one of getm's, where it is an answer of the store."""
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):
        return error
    answer = error.response
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code, said = answer.get("Error", {}).get("Code", ""), answer.get("Error", {}).get("Message", "")
    reason = HTTPStatus(status).phrase if status in {each.value for each in HTTPStatus} else ""
    texts = (f"{status} {reason}".strip(), code, said.strip().removesuffix("."))
    return HTTPStatusError(brief(": ".join(filter(None, texts))), status=status, reason=reason or None)
