"""One member of a zip file, without the others: python examples/zip_member.py URL"""

from __future__ import annotations

import sys
import zipfile

import getm

with getm.open(sys.argv[1] + "members.zip") as fh, zipfile.ZipFile(fh) as archive:
    text = archive.read("member-700.txt").decode()
    print(len(archive.namelist()), "members;", text.splitlines()[0])
    stats = fh.raw.stats
    print(f"{stats.received_bytes} of {fh.raw.size} bytes in {stats.requests} requests")
