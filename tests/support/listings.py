"""What a store lists: keys below a prefix, in order, in pages, with what they have in common up to a delimiter."""

from __future__ import annotations

from collections.abc import Iterable


def list_page(
    keys: Iterable[str], prefix: str, delimiter: str, after: str, most: int
) -> tuple[list[str], list[str], str]:
    """Keys and common prefixes of the page that follows `after`, at most `most` of them; and what the next page
    follows, empty for none."""
    found: list[str] = []
    for key in sorted(keys):
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        name = key if end < 0 else key[: end + len(delimiter)]
        if key.startswith(prefix) and name > after and name not in found:
            found.append(name)
    page = found[:most]
    folders = [name for name in page if delimiter and name.endswith(delimiter)]
    return [name for name in page if name not in folders], folders, page[-1] if len(found) > most else ""
