"""Prints signed URLs of objects in Google Cloud Storage, one on a line, for whoever has none of your credentials.

python dev_scripts/sign_gs.py [--seconds SECONDS] gs://BUCKET/KEY...

The credentials are those of GETM_GOOGLE_APPLICATION_CREDENTIALS, or else the application default ones. They must have a
key: a service account, or impersonation of one.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import timedelta
from typing import Any

import google.auth
from google.auth import credentials as kinds
from google.cloud.storage import Client

_auth: Any = google.auth
_kinds: Any = kinds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3600, help="how long the URLs are good for (3600)")
    parser.add_argument("names", nargs="+", metavar="gs://BUCKET/KEY")
    options = parser.parse_args()
    path = os.environ.get("GETM_GOOGLE_APPLICATION_CREDENTIALS")
    credentials = _auth.load_credentials_from_file(path)[0] if path else _auth.default()[0]
    if not isinstance(credentials, _kinds.Signing):
        print("these credentials cannot sign: set GETM_GOOGLE_APPLICATION_CREDENTIALS to a service account's file")
        return 2
    endpoint = os.environ.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
    # Signing sends nothing.
    client = Client(project="", credentials=_kinds.AnonymousCredentials())
    for name in options.names:
        bucket, _, key = name.removeprefix("gs://").partition("/")
        print(
            client.bucket(bucket)
            .blob(key)
            .generate_signed_url(
                version="v4",
                expiration=timedelta(seconds=options.seconds),
                credentials=credentials,
                api_access_endpoint=endpoint,
            )
        )
    client.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
