"""Which certificates a connection over TLS trusts, and which one it shows."""

from __future__ import annotations

import os
import ssl
from typing import NamedTuple

from getm import errors
from getm.core.text import encodable
from getm.protocol.messages import OpenRequest


class Certificates(NamedTuple):
    """Which certificates are trusted: those of a file and a folder, or of OpenSSL's own places; or, `insecure`, any.
    Connections that were made without checks are never used by a transfer that asks for them. And which one is shown to
    a server that asks for it."""

    cafile: bytes | None
    capath: bytes | None
    insecure: bool
    # Of the client.
    cert: bytes | None = None
    key: bytes | None = None
    key_password: str | None = None

    @classmethod
    def of(cls, request: OpenRequest) -> Certificates:
        """What the request names: a file or folder, as curl's --cacert does it; else by OpenSSL's own variables."""
        options = request.connection
        own = (None, None, None) if options is None else (options.cert, options.key, options.key_password)
        if named := request.cacert:
            is_folder = os.path.isdir(named)  # noqa: PTH112
            return cls(None if is_folder else named, named if is_folder else None, request.insecure, *own)
        variables = request.environment
        file, folder = variables.get("SSL_CERT_FILE"), variables.get("SSL_CERT_DIR")
        return cls(file or None, folder or None, request.insecure, *own)

    def context(self) -> ssl.SSLContext:
        """Raises `InvalidInput` for certificates that cannot be loaded."""
        try:
            context = ssl.create_default_context(cafile=self.cafile, capath=self.capath)
        except (OSError, ssl.SSLError) as error:
            if found := errors.DescriptorsExhausted.found(error, "the engine"):
                # The file may be all right.
                raise found from None
            named = encodable(os.fsdecode(self.cafile or self.capath or b"the default places"))
            reason = encodable(str(error))
            raise errors.InvalidInput(f"the certificates in {named} cannot be loaded: {reason}") from None
        # Debian's OpenSSL may take an end without close_notify for a clean one: a body that ends with the connection
        # could then be cut short unseen.
        context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert is not None:
            self._load_own(context, self.cert)
        return context

    def _load_own(self, context: ssl.SSLContext, cert: bytes) -> None:
        asked = False

        def password() -> str:
            # Without this, OpenSSL would ask for it on the terminal. None that is given is none that is right.
            nonlocal asked
            asked = True
            return self.key_password or ""

        try:
            context.load_cert_chain(cert, self.key, password)
        except (OSError, ssl.SSLError, ValueError) as error:
            if found := errors.DescriptorsExhausted.found(error, "the engine"):
                raise found from None
            named, key = (encodable(os.fsdecode(path)) for path in (cert, self.key or cert))
            if asked:
                wrong = "is needed" if self.key_password is None else "does not open it"
                right = "give the right one (key_password, or --key-password-file)"
                message = f"the key in {key} is encrypted, and its password {wrong}; {right}"
            elif "KEY_VALUES_MISMATCH" in str(error):
                message = f"the key in {key} is not that of the certificate in {named}"
            else:
                message = f"the client certificate in {named} cannot be loaded with its key: {encodable(str(error))}"
            raise errors.InvalidInput(message) from None
