"""`hf://ORG/NAME[@REVISION]/PATH`: files of the Hugging Face Hub, by the names that its own library gives them.

The hub redirects to storage by a signed URL, with the SHA-256 of the file in the redirect (`X-Linked-Etag`), and signs
another one when that expires. So a name is a URL of the hub, and a token for it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

from getm.errors import InvalidInput
from getm.resolve.resource import Resource

# As huggingface_hub's HfFileSystem reads them: revisions with a slash are those of pull requests and conversions, or
# have it percent-encoded.
_NAME = re.compile(
    r"(hf://(?:(datasets/|spaces/)|(?!datasets/|spaces/))([^/@]+/[^/@]+)(?:@(refs/(?:pr|convert)/[^/]+|[^/]+))?)"
    r"(?:/(.*))?",
    re.IGNORECASE | re.DOTALL,
)
_ENDPOINT = "https://huggingface.co"
_EXPECTED = "expected hf://ORG/NAME[@REVISION]/PATH, with datasets/ or spaces/ before ORG for those"


def resolve(name: str) -> Resource:
    """The Hugging Face Hub: hf://[datasets/|spaces/]ORG/NAME[@REVISION]/PATH.

    Args:
        name: The name; without a revision, `main`.

    Returns:
        The URL at the hub ($HF_ENDPOINT), with the token of $HF_TOKEN or of the file that `hf auth login` writes.

    Raises:
        InvalidInput: It is no such name.

    Example:
        >>> weights = getm.read("hf://org/model/model.safetensors")
    """
    place = place_of(name)
    if not place.path:
        raise InvalidInput(f"{_EXPECTED}; a whole repository is for getm NAME -d DIR")
    repository = f"{endpoint()}/{place.kind}{quote(place.repository)}"
    return Resource(f"{repository}/resolve/{quote(place.revision, safe='')}/{quote(place.path)}", headers=headers())


class Place(NamedTuple):
    """What a name says. `root`: the name of the repository as it is written, with its revision. `kind`: "datasets/",
    "spaces/" or nothing."""

    root: str
    kind: str
    repository: str
    revision: str
    path: str


def place_of(name: str) -> Place:
    """The parts of a name, whose path may be empty. Raises `InvalidInput`."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise InvalidInput(_EXPECTED)
    root, kind, repository, revision, path = found.groups(default="")
    return Place(root, kind.lower(), repository, unquote(revision or "main"), path)


def endpoint() -> str:
    """The URL of the hub."""
    return (os.environ.get("HF_ENDPOINT") or _ENDPOINT).rstrip("/")


def headers() -> dict[str, str]:
    """Those that a request to the hub has."""
    token = _token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _token() -> str | None:
    """The token, where huggingface_hub looks for it."""
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if token := os.environ.get(variable, "").strip():
            return token
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{caches}/huggingface"
    path = os.path.expanduser(os.environ.get("HF_TOKEN_PATH") or f"{home}/token")  # noqa: PTH111 - there may be no home
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        # Nobody has logged in.
        return None
