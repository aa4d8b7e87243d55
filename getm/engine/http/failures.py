"""aiohttp's and asyncio's exceptions as getm's: what went wrong, and what can be done about it.

Imported where a request has failed only.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
import time

from aiohttp.client_exceptions import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientError,
    ClientHttpProxyError,
    ClientOSError,
    ClientResponseError,
    ClientSSLError,
    ConnectionTimeoutError,
    ServerDisconnectedError,
)
from aiohttp.http_exceptions import HttpProcessingError

from getm import errors
from getm.core.head import HeadError, decode_phrase
from getm.core.proxy import Proxy
from getm.core.signed_url import utc_text
from getm.core.text import brief
from getm.core.url import origin_of
from getm.engine.http.dialing import SocksReply
from getm.protocol.messages import OpenRequest

# OpenSSL's reasons where what answers is no TLS: plain HTTP, most often.
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})
# Results of OpenSSL's verification (x509_vfy.h, X509_V_ERR_...).
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = frozenset({62, 64})
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21, 27})
# The resolver's errors for a name that does not exist, or has no address (RFC 3493, section 6.1).
_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
# tinyproxy answers 401 to a login that is wrong, and 407 to none.
_LOGIN_WANTED = frozenset({401, 407})
_CERTIFICATE_ALERT = re.compile("CERTIFICATE_(?:REQUIRED|EXPIRED|REVOKED|UNKNOWN)|BAD_CERTIFICATE|UNKNOWN_CA")


def translate(error: Exception, host: str | None, request: OpenRequest, proxy: Proxy | None) -> errors.GetmError:
    """aiohttp's and asyncio's exceptions in a request to `host` as getm's."""
    through = "" if proxy is None else f" through {proxy}"
    if found := errors.DescriptorsExhausted.found(error, f"the engine for a connection to {host}"):
        return found
    if isinstance(error, ConnectionTimeoutError):
        limit_s = request.connect_s or 0.0
        advice = "check the address and the network, or give it more time (timeout)"
        message = f"no connection to {host}{through} within {limit_s:g} s; {advice}"
        return errors.TimedOut(message, phase="connect", timeout_s=limit_s)
    if isinstance(error, TimeoutError):
        limit_s = request.stall_s or 0.0
        message = f"no response{through} within {limit_s:g} s; try again later, or give it more time (timeout)"
        return errors.TimedOut(message, phase="response", timeout_s=limit_s)
    if isinstance(error, ClientConnectorCertificateError):
        whose = proxy if _is_of_proxy(error, proxy) else host
        return errors.TLSFailed(_certificate_text(error.certificate_error, str(whose)))
    if isinstance(error, ClientSSLError | ssl.SSLError):
        cause = getattr(error, "os_error", error)
        whom = proxy if _is_of_proxy(error, proxy) else f"{host}{through}"
        if getattr(cause, "reason", None) in _NO_TLS:
            return errors.TLSFailed(f"{whom} does not speak TLS on this port; did you mean http://?")
        return errors.TLSFailed(f"TLS with {whom} failed ({brief(str(cause))}); check the host and the port")
    if isinstance(error, ClientConnectorDNSError):
        # A name that does not exist will not exist the next time; a resolver that failed may succeed then.
        why = brief(error.strerror or "")
        where = "" if proxy is None else f" of {proxy}"
        if isinstance(error.os_error, socket.gaierror) and error.os_error.errno in _NO_SUCH_NAME:
            named = "the URL" if proxy is None or proxy.socks else proxy.named_by
            version = None if request.connection is None else request.connection.ip_version
            address = "" if version is None else f", or it has no IPv{version} address"
            message = f"there is no host {error.host}{where}{address}: {why}; check the name in {named}"
            return errors.HostNotFound(message, reason="name not found")
        advice = "check this machine's network and its name servers"
        message = f"the name {error.host}{where} could not be resolved: {why}; {advice}"
        return errors.ConnectFailed(message, reason="name not found")
    if isinstance(error, ClientConnectorError):
        whom = f"{error.host}:{error.port}" if proxy is None else f"{proxy}"
        options = request.connection
        if options is not None and options.interface is not None:
            whom += f" over {options.interface}"
        why, advice = _connect_text(error.os_error)
        if options is not None and options.unix_socket is not None:
            whom, advice = f"the socket {os.fsdecode(options.unix_socket)}", "check that its server runs"
        elif proxy is not None:
            if isinstance(error.os_error, SocksReply):
                return _not_connected(proxy, f"{error.host}:{error.port}", error.os_error)
            advice = f"correct {proxy.named_by}, unset it, or exempt the host by no_proxy"
        return errors.ConnectFailed(f"no connection to {whom}: {why}; {advice}", reason=why[:1].lower() + why[1:])
    if isinstance(error, ClientHttpProxyError) and proxy is not None:
        return proxy_refused(proxy, error.status, decode_phrase(error.message))
    if isinstance(error, ServerDisconnectedError):
        return errors.Truncated(f"the connection{through} was closed without a response", received=0)
    if isinstance(error, HeadError):
        return errors.BadResponse(f"{error}")
    if isinstance(error, ClientResponseError | HttpProcessingError):
        came = brief(error.message)
        return errors.BadResponse(f"expected an HTTP response{through}, and what came is none ({came}); check the port")
    if isinstance(error, ClientOSError) and (alert := _CERTIFICATE_ALERT.search(str(error))):
        # In TLS 1.3 a server asks after the handshake (RFC 8446, section 4.4.2.4).
        if request.connection is None or request.connection.cert is None:
            return errors.TLSFailed(f"{host} wants a client certificate ({alert[0].lower()}): give one (cert and key)")
        return errors.TLSFailed(f"{host} refused the client certificate ({alert[0].lower()}); give another one by cert")
    if isinstance(error, ClientError | OSError):
        return errors.NetworkError(f"the connection{through} broke ({brief(str(error))})")
    return errors.InvalidInput(f"the request could not be made ({brief(str(error))})")


def _is_of_proxy(error: Exception, proxy: Proxy | None) -> bool:
    """Whether it was the proxy with which no connection could be made, and not the server within its tunnel."""
    if proxy is None:
        return False
    return (getattr(error, "host", None), getattr(error, "port", None)) == origin_of(proxy.url)[1:]


def _certificate_text(error: Exception, whose: str) -> str:
    """What is wrong with the certificate of `whose`, and what can be done about it."""
    code, why = getattr(error, "verify_code", 0), brief(getattr(error, "verify_message", "") or str(error))
    if code == _EXPIRED:
        return f"the certificate of {whose} has expired: its operator must renew it ({_clock_text()})"
    if code == _NOT_YET_VALID:
        return f"the certificate of {whose} is not valid yet: is this machine's clock right? ({_clock_text()})"
    if code in _OTHER_NAME:
        return f"the server's certificate is not that of {whose} ({why}); check the name in the URL"
    text = f"the certificate of {whose} is not trusted ({why})"
    if code not in _UNKNOWN_AUTHORITY:
        return text
    return f"{text}; for a private certificate authority give cacert (--cacert FILE)"


def _clock_text() -> str:
    return f"it is {utc_text(time.time())} by this machine's clock"


def _connect_text(error: OSError) -> tuple[str, str]:
    """Why a connection could not be made, and what can be done about it."""
    why = os.strerror(error.errno) if error.errno and error.errno > 0 else brief(error.strerror or str(error))
    if error.errno == errno.ECONNREFUSED:
        return why, "nothing listens there: check the address and the port"
    return why, "check the address, and this machine's network"


def _not_connected(proxy: Proxy, to: str, reply: SocksReply) -> errors.ConnectFailed:
    why = brief(reply.strerror or "")
    text = f"{proxy} makes no connection to {to}: {why}"
    if not reply.final:
        return errors.ConnectFailed(f"{text}; check the address and the port", reason=why[:1].lower() + why[1:])
    advice = f"check the user name and the password in {proxy.named_by}, and what the proxy allows"
    return errors.ProxyRefused(f"{text}; {advice}", status=reply.number, reason=why)


def proxy_refused(proxy: Proxy, status: int, phrase: str, at: str | None = None) -> errors.ProxyRefused:
    """The error for a status with which a proxy, and not the server behind it, answers."""
    # Needed where a proxy refuses only.
    from getm.core.error_content import without_secrets

    phrase = without_secrets(phrase, proxy.url, ())
    advice = f"; give its user name and password in {proxy.named_by}" if status in _LOGIN_WANTED else ""
    return errors.ProxyRefused(
        f"{proxy} answered {status} {phrase}".rstrip() + advice, url=at, status=status, reason=phrase
    )
