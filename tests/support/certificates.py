"""A certificate authority for one run: what servers show, and the file a client must be given to trust it."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class CertificateFiles:
    """One server certificate as PEM files: `chain` (leaf first) and its private `key`."""

    chain: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


class Authority:
    """Issues certificates into `folder`. `ca_path` is the PEM bundle (one root) that clients trust.

    A certificate of another `Authority` is what a client sees as self-signed or unknown.
    """

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ca_path = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.ca_path))

    def issue(self, *names: str, expired: bool = False) -> CertificateFiles:
        """A certificate for `names` (default: every name of the loopback), valid now, or `expired` since yesterday."""
        not_after = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1) if expired else None
        leaf = self._ca.issue_cert(*(names or LOOPBACK_NAMES), not_after=not_after)
        stem = f"{'-'.join(names) or 'loopback'}{'-expired' if expired else ''}".replace(":", "_").replace("*", "any")
        files = CertificateFiles(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        files.chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(files.key))
        return files
