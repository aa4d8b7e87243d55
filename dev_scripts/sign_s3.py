"""Prints signed URLs of objects in S3, one on a line, for whoever has none of your credentials.

python dev_scripts/sign_s3.py [--seconds SECONDS] s3://BUCKET/KEY...
"""

from __future__ import annotations

import argparse
import contextlib

from getm.clouds.aws import S3Clients
from getm.destinations.urls import s3_place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3600, help="how long the URLs are good for (3600)")
    parser.add_argument("names", nargs="+", metavar="s3://BUCKET/KEY")
    options = parser.parse_args()
    with contextlib.closing(S3Clients(sign=True)) as clients:
        for name in options.names:
            bucket, key = s3_place(name)
            place = {"Bucket": bucket, "Key": key}
            print(clients.of(bucket).generate_presigned_url("get_object", Params=place, ExpiresIn=options.seconds))


if __name__ == "__main__":
    main()
