"""Amazon's clouds, and servers that speak S3's protocol: clients by botocore, whose business credentials, profiles,
single sign-on, endpoints, retries and signatures are. Its variables and files (AWS_PROFILE, AWS_ENDPOINT_URL_S3,
~/.aws/config, ...) count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from getm.clouds.variables import chosen, snapshot
from getm.core.lazy import importing
from getm.core.threads import ForkSafeLock
from getm.errors import MissingExtra

# Connections that a client keeps: as many as a batch has threads for uploads.
_CONNECTIONS = 16
_CONNECT_S = 10


class S3Clients:
    """botocore's clients for S3, one for each choice of credentials, server and region: making one takes a tenth of a
    second. For any thread.

    Args:
        sign: Whether requests are signed also where there are no credentials, and so fail before they are sent.
        prepare: Called with each new client.
    """

    def __init__(self, *, sign: bool = False, prepare: Callable[[Any], object] | None = None) -> None:
        self._sign = sign
        self._prepare = prepare
        self._lock = ForkSafeLock()
        self._clients: dict[tuple[object, ...], Any] = {}
        # Of buckets at Amazon: nobody else has regions that could be wrong.
        self._regions: dict[tuple[object, ...], str | None] = {}

    def of(
        self,
        bucket: str,
        *,
        profile: str | None = None,
        endpoint_url: str | None = None,
        anonymous: bool | None = None,
    ) -> Any:
        """A client for the region of `bucket`, or of an access point by its ARN. It belongs to this object.

        Args:
            bucket: Its name or ARN.
            profile: Of the AWS configuration; None: $AWS_PROFILE, or else the default one.
            endpoint_url: Of a server that speaks the protocol; None: as the AWS configuration says.
            anonymous: Do not sign; None: where $AWS_NO_SIGN_REQUEST says so, or there are no credentials.

        Raises:
            MissingExtra: botocore is not installed.
        """
        unsigned = chosen(anonymous, "AWS_NO_SIGN_REQUEST")
        client = self._client(profile, endpoint_url, unsigned, None)
        if not bucket.startswith("arn:") and (region := self._region(client, bucket)) is not None:
            client = self._client(profile, endpoint_url, unsigned, region)
        return client

    def close(self) -> None:
        """Close the connections of all clients."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _client(self, profile: str | None, endpoint_url: str | None, unsigned: bool, region: str | None) -> Any:
        try:
            with importing:
                import botocore.session
                from botocore import UNSIGNED
                from botocore.config import Config
        except ImportError as error:
            raise MissingExtra(f's3:// needs botocore: pip install "getm[s3]" ({error})') from error
        known = profile, endpoint_url, unsigned, region, snapshot(("AWS_",))
        with self._lock:
            if known not in self._clients:
                session = botocore.session.Session(profile=profile)
                is_signed = not unsigned and (self._sign or session.get_credentials() is not None)
                style = session.get_scoped_config().get("s3", {}).get("addressing_style")
                if style is None and region is not None:
                    # At the region's own host: the global one, which is signed for otherwise, redirects to it.
                    style = "virtual"
                config = Config(
                    signature_version="s3v4" if is_signed else UNSIGNED,
                    s3=None if style is None else {"addressing_style": style},
                    max_pool_connections=_CONNECTIONS,
                    connect_timeout=_CONNECT_S,
                )
                place = region or session.get_config_variable("region") or "us-east-1"
                client = session.create_client("s3", region_name=place, endpoint_url=endpoint_url, config=config)
                if self._prepare is not None:
                    self._prepare(client)
                self._clients[known] = client
            return self._clients[known]

    def _region(self, client: Any, bucket: str) -> str | None:
        """Where the bucket is, which Amazon says to anybody (HeadBucket, response headers); None where it does not."""
        if not client.meta.endpoint_url.endswith((".amazonaws.com", ".amazonaws.com.cn")):
            return None
        known = client.meta.endpoint_url, bucket
        if known not in self._regions:
            from botocore.exceptions import ClientError

            try:
                answer = client.head_bucket(Bucket=bucket)
            except ClientError as error:
                answer = error.response
            self._regions[known] = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        return self._regions[known]
