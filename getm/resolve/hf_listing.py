"""What a repository of the Hugging Face Hub has, by the hub's API: the files of one commit, so that a branch that moves
meanwhile mixes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, urljoin, urlsplit

from msgspec import Struct

from getm.core.redact import redact
from getm.core.text import brief
from getm.errors import BadResponse, InvalidInput
from getm.resolve.hf import Place, endpoint, headers, place_of
from getm.resolve.listing import EndOfPages, ListedObject, ListRequest
from getm.resolve.pages import decode

# RFC 8288, section 3.
_NEXT = re.compile(r"<([^>]*)>(?:\s*;[^,<]*)?;\s*rel=\"?next\"?", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


class _Revision(Struct):
    sha: str


class _LargeFile(Struct):
    oid: str
    size: int


class _Node(Struct):
    """A file or a folder of a tree. `lfs`: of a file that storage has, and not git."""

    type: str
    path: str
    size: int | None = None
    oid: str | None = None
    lfs: _LargeFile | None = None


def list_objects(request: ListRequest) -> Iterator[ListedObject]:
    """Files of models, datasets and spaces, with the SHA-256 of those that storage has, and the git id of others.

    Args:
        request: What is asked for.

    Yields:
        Files, pinned to the commit that the revision names now, and folders.

    Raises:
        InvalidInput: The prefix names no repository.
        BadResponse: The hub says what cannot be.
        HTTPStatusError: There is no such repository, revision or folder, or the token is not for it.
    """
    place = place_of(request.prefix)
    api = f"{endpoint()}/api/{place.kind or 'models/'}{quote(place.repository)}"
    own = headers()
    revision = decode(request.get(f"{api}/revision/{quote(place.revision, safe='')}", own), _Revision)
    if not _COMMIT.fullmatch(revision.sha):
        raise BadResponse(
            f"the hub says that the revision is {brief(revision.sha)!r}, which is no commit", url=redact(api)
        )
    folder = place.path[: place.path.rfind("/") + 1].rstrip("/")
    tree = f"{api}/tree/{quote(revision.sha, safe='')}{f'/{quote(folder)}' if folder else ''}"
    pinned = f"hf://{place.kind}{place.repository}@{revision.sha}"
    for node in _nodes(request, f"{tree}?recursive={'true' if request.recursive else 'false'}", own):
        try:
            listed = _listed(node, place, pinned)
        except InvalidInput as error:
            raise BadResponse(f"the hub lists what no file can be: {error.message}", url=redact(api)) from None
        yield listed


def _nodes(request: ListRequest, url: str, own: Mapping[str, str]) -> Iterator[_Node]:
    """What all pages have; each names the next one (RFC 8288)."""
    end, origin = EndOfPages(), urlsplit(url)[:2]
    while True:
        page = request.get(url, own)
        nodes = decode(page, list[_Node])
        yield from nodes
        found = _NEXT.search(page.headers.get("link", ""))
        if found is None:
            return
        end.check(url, is_empty=not nodes)
        url = urljoin(url, found[1])
        if urlsplit(url)[:2] != origin:
            raise BadResponse("the next page of the listing is at another host, which gets no token", url=redact(url))


def _listed(node: _Node, place: Place, pinned: str) -> ListedObject:
    name = f"{place.root}/{node.path}"
    if node.type == "directory":
        return ListedObject(f"{name}/", is_folder=True)
    size = node.size if node.lfs is None else node.lfs.size
    checksums = [f"sha256:{node.lfs.oid}"] if node.lfs else [f"git-blob:{node.oid}"] if node.oid else ()
    return ListedObject(name, size, None, checksums, node.oid, f"{pinned}/{node.path}")
