"""The files of a deposit that has a DOI."""

from __future__ import annotations

from collections.abc import Iterator

from getm.resolve.doi import find_deposit
from getm.resolve.listing import ListedObject, ListRequest


def list_objects(request: ListRequest) -> Iterator[ListedObject]:
    """The files of a deposit, with the sizes and checksums that its repository has.

    Args:
        request: What is asked for: doi:10.PREFIX/SUFFIX/.

    Yields:
        Files.

    Raises:
        InvalidInput: There is no such DOI, or its repository is not known.
        NetworkError: The registry of DOIs or the repository could not be asked, or refused.
    """
    deposit, path = find_deposit(request.prefix, request.get)
    name = request.prefix.rstrip("/")
    root = name[: len(name) - len(path)].rstrip("/")
    for file in deposit.files:
        yield ListedObject(f"{root}/{file.path}", file.size, None, file.checksums)
