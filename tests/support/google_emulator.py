"""gcp-storage-emulator: Google Cloud Storage in a process of its own, filled by Google's client as any user would."""

from __future__ import annotations

from pathlib import Path

from tests.support.program_server import ProgramServer

_PROGRAM = """
import sys
from gcp_storage_emulator import server
# One connection that is open must not keep the others waiting.
server.server.HTTPServer = server.server.ThreadingHTTPServer
emulator = server.create_server("127.0.0.1", 0, True, sys.argv[1])
emulator.start()
print(emulator._api._httpd.server_port, flush=True)
sys.stdin.read()
emulator.stop()
"""


class GoogleEmulator(ProgramServer):
    """The emulator with the bucket `bucket`. `folder` takes its log."""

    def __init__(self, folder: Path, bucket: str) -> None:
        super().__init__(_PROGRAM, bucket, folder / "emulator.log")
