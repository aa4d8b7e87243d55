"""A URL per line, with aria2's extensions: mirrors on the same line, options on the lines below it.

    # blank lines and comments are skipped
    https://host/file.iso<TAB>https://mirror/file.iso
      dir=images
      out=file.iso
      checksum=sha-256=...
      header=X-Auth: ...

The form is that of aria2's input files (aria2c manual, "Input File"), of which a plain list of URLs is a case. Options
start with white space, one a line. Understood are `out`, `dir`, `checksum`, `header`, `user-agent` and `referer`; the
other options of aria2 say how aria2 transfers, and are ignored. Behind a URL there may be its checksum as well,
"ALG:VALUE". Paths stay below the current folder, other than in aria2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from getm.errors import InvalidInput
from getm.integrity.values import Checksum, parse_checksum
from getm.manifests.document import Document
from getm.manifests.entry import Entry, usable_urls
from getm.manifests.fields import looks_like_checksum
from getm.manifests.items import Item, attempt
from getm.options import parse_header

_UNDERSTOOD = ("checksum", "dir", "header", "out", "referer", "user-agent")
_ARIA2_OPTIONS = """
all-proxy all-proxy-passwd all-proxy-user allow-overwrite allow-piece-length-change always-resume async-dns
auto-file-renaming bt-enable-hook-after-hash-check bt-enable-lpd bt-exclude-tracker bt-external-ip bt-force-encryption
bt-hash-check-seed bt-load-saved-metadata bt-max-peers bt-metadata-only bt-min-crypto-level bt-prioritize-piece
bt-remove-unselected-file bt-request-peer-speed-limit bt-require-crypto bt-save-metadata bt-seed-unverified
bt-stop-timeout bt-tracker bt-tracker-connect-timeout bt-tracker-interval bt-tracker-timeout check-integrity
conditional-get connect-timeout content-disposition-default-utf8 continue dry-run enable-http-keep-alive
enable-http-pipelining enable-mmap enable-peer-exchange file-allocation follow-metalink follow-torrent force-save
ftp-passwd ftp-pasv ftp-proxy ftp-proxy-passwd ftp-proxy-user ftp-reuse-connection ftp-type ftp-user gid
hash-check-only http-accept-gzip http-auth-challenge http-no-cache http-passwd http-proxy http-proxy-passwd
http-proxy-user http-user https-proxy https-proxy-passwd https-proxy-user index-out lowest-speed-limit
max-connection-per-server max-download-limit max-file-not-found max-mmap-limit max-resume-failure-tries max-tries
max-upload-limit metalink-base-uri metalink-enable-unique-protocol metalink-language metalink-location metalink-os
metalink-preferred-protocol metalink-version min-split-size no-file-allocation-limit no-netrc no-proxy
no-want-digest-header parameterized-uri pause pause-metadata piece-length proxy-method realtime-chunk-checksum
remote-time remove-control-file retry-wait reuse-uri rpc-save-upload-metadata save-not-found seed-ratio seed-time
select-file split ssh-host-key-md stream-piece-selector timeout uri-selector use-head
"""
"""aria2c manual, "Input File": the options that may stand below a URL and are ignored."""

_URL_STARTS = ("http://", "https://")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def read_url_list(document: Document) -> Iterator[Item]:
    """The entries of a list of URLs or an aria2 input file."""
    block: list[tuple[int, str]] = []
    ignored: set[str] = set()
    for number, line in document.lines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if line[0] not in " \t" or text.lower().startswith(_URL_STARTS):
            if block:
                yield _item(block, ignored)
            block = [(number, text)]
        elif block:
            block.append((number, text))
        else:
            yield InvalidInput(f"line {number}: an option without a URL above it")
    if block:
        yield _item(block, ignored)
    yield from sorted(ignored)


def _item(block: list[tuple[int, str]], ignored: set[str]) -> Item:
    """The entry of a line with URLs, and of the lines with its options."""
    (number, urls), *options = block
    return attempt(_entry, f"line {number}", urls, options, ignored)


def _entry(place: str, line: str, options: list[tuple[int, str]], ignored: set[str]) -> Entry:
    name = folder = ""
    given, checksums = _split(line)
    headers: list[tuple[str, str]] = []
    for number, text in options:
        option, equals, value = (part.strip() for part in text.partition("="))
        try:
            if not equals:
                raise InvalidInput("expected an option as NAME=VALUE")
            if option == "out":
                name = value
            elif option == "dir":
                folder = value
            elif option == "checksum":
                checksums.append(parse_checksum(value))
            elif option in _UNDERSTOOD:
                headers.append(parse_header(value if option == "header" else f"{option.title()}: {value}"))
            elif option in _ARIA2_OPTIONS.split():
                ignored.add(option)
            else:
                raise InvalidInput(f"aria2 has no option {option[:40]!r}; understood are {', '.join(_UNDERSTOOD)}")
        except InvalidInput as error:
            raise InvalidInput(f"line {number} of its options: {error.message}") from error
    # Within `dir`, as in aria2: join() would take an absolute `out` alone.
    path = f"{folder}/{name}" if folder else name
    urls = usable_urls(given)
    url = urls[0] if len(urls) == 1 else urls
    return Entry(url, path, checksums or None, headers=headers or None, place=place, trusted_path=False)


def _split(line: str) -> tuple[list[str], list[Checksum]]:
    """URLs and checksums with tabs between them; the last word may also be a checksum with a blank before it."""
    if line.startswith(_URL_STARTS) and len(line.split(maxsplit=1)) == 1:
        # Most lines.
        return [line], []
    urls: list[str] = []
    checksums: list[Checksum] = []
    for number, part in enumerate(filter(None, map(str.strip, line.split("\t"))), 1):
        *before, last = part.rsplit(maxsplit=1)
        if looks_like_checksum(last):
            checksums.append(parse_checksum(last))
            urls += before
        elif number == 1 or _SCHEME.match(part):
            urls.append(part)
        else:
            # Not quoted: it may be a secret.
            raise InvalidInput(f"field {number} of the line is neither a URL nor a checksum (ALG:VALUE)")
    return urls, checksums
