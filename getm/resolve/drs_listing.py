"""What a bundle of a GA4GH Data Repository Service has: the objects in it, and in the bundles within it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import quote, urlsplit

from getm.errors import InvalidInput
from getm.resolve.drs import BUNDLE_DEPTH, Content, checksums_of, find_object, root_of
from getm.resolve.listing import ListedObject, ListRequest


def list_objects(request: ListRequest) -> Iterator[ListedObject]:
    """The objects of a bundle, by the names that it gives them.

    Args:
        request: What is asked for: drs://HOST/ID/, drs://PREFIX:ACCESSION/.

    Yields:
        Objects, whose sizes and checksums are known to their own descriptions only; or the object itself, where it is
        none.

    Raises:
        InvalidInput: It is no such name.
        NetworkError: The server could not be asked, or refused.
    """
    root = root_of(request.prefix)
    found, place = find_object(root, request.get, expand=True)
    if not found.is_bundle:
        yield ListedObject(root, found.size, None, checksums_of(found))
    elif request.prefix == root:
        yield ListedObject(f"{root}/", is_folder=True)
    else:
        yield from _contents(found.contents or (), f"{root}/", urlsplit(place).netloc, BUNDLE_DEPTH)


def _contents(contents: Iterable[Content], folder: str, host: str, depth: int) -> Iterator[ListedObject]:
    for content in contents:
        name = f"{folder}{content.name}"
        if not content.name or content.name.endswith("/"):
            raise InvalidInput(f"the bundle has an object without a name that a file could have: {content.name!r:.80}")
        if content.contents:
            if not depth:
                raise InvalidInput(f"the bundle has more than {BUNDLE_DEPTH} bundles within one another")
            yield from _contents(content.contents, f"{name}/", host, depth - 1)
            continue
        own = next((each for each in content.drs_uri or () if each.lower().startswith("drs://")), None)
        pinned = f"drs://{host}/{quote(content.id, safe='%')}" if content.id else own
        yield ListedObject(name, pinned=pinned)
