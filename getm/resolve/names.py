"""What finds an object: its provider, or the resolver for the scheme of its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from getm.core.lazy import importing
from getm.core.redact import redact
from getm.core.text import brief
from getm.errors import InvalidInput, ResolveFailed
from getm.resolve.locator import Locator
from getm.resolve.request import scheme_of
from getm.resolve.resource import Provider, Resource

if TYPE_CHECKING:
    from getm.files.logins import Logins
    from getm.resolve.listing import Lister

GROUP = "getm.resolvers"
"""The group of entry points by which packages add resolvers: the name of each is a scheme."""

LISTERS = "getm.listers"
"""The group of entry points by which packages add listers: the name of each is a scheme."""

BUILT_IN = {
    "s3": "getm.resolve.s3:resolve",
    "gs": "getm.resolve.gs:resolve",
    **dict.fromkeys(("az", "abfs", "abfss"), "getm.resolve.az:resolve"),
    "hf": "getm.resolve.hf:resolve",
    "drs": "getm.resolve.drs:resolve",
    "doi": "getm.resolve.doi:resolve",
}
"""getm's own resolvers, as entry points name them."""

BUILT_IN_LISTERS = {
    "s3": "getm.resolve.s3_listing:list_objects",
    "gs": "getm.resolve.gs_listing:list_objects",
    **dict.fromkeys(("az", "abfs", "abfss"), "getm.resolve.az_listing:list_objects"),
    "hf": "getm.resolve.hf_listing:list_objects",
    **dict.fromkeys(("http", "https"), "getm.resolve.index_listing:list_objects"),
    "drs": "getm.resolve.drs_listing:list_objects",
    "doi": "getm.resolve.doi_listing:list_objects",
}
"""getm's own listers, likewise."""


class _Need(NamedTuple):
    """The `package` that a resolver needs, which has this `module`, and which this `extra` brings. `purpose`: for what;
    None: for everything."""

    module: str
    package: str
    extra: str
    purpose: str | None = None

    def text(self) -> str:
        what = f'{self.package}: pip install "getm[{self.extra}]"'
        return f"it needs {what}" if self.purpose is None else f"{self.purpose} needs {what}"


_PRIVATE = "what is not public"
_NEEDS = {
    "s3": _Need("botocore", "botocore", "s3"),
    "gs": _Need("google.auth", "google-auth", "gs", _PRIVATE),
    **dict.fromkeys(("az", "abfs", "abfss"), _Need("azure.identity", "azure-identity", "az", _PRIVATE)),
}

# Names that are URIs without an authority (RFC 3986, section 3).
_WITHOUT_SLASHES = frozenset({"doi"})

# A function of a name that returns where the object is now.
Resolver = Callable[[str], str | Resource]


def find_locator(url: object, logins: Logins | None = None, name: str = "") -> Locator | None:
    """What finds the object of a provider, or of a name whose scheme has a resolver; None for all else."""
    if isinstance(url, str):
        entry = _entry(url)
        if entry is None:
            return None
        return Locator(partial(_resolve, entry, url), redact(url), redact(url), logins, resolves=True)
    shown = redact(name)
    return Locator(url, shown or None, shown or label_of(url), logins) if callable(url) else None


def has_resolver(name: str) -> bool:
    """Whether there is a resolver for the scheme of `name`."""
    return _entry(name) is not None


def resolve_name(name: str) -> Resource:
    """Where an object is now, by the resolver for the scheme of its name. Raises what that raises."""
    entry = _entry(name)
    if entry is None:
        from getm.core.url_advice import not_http

        raise InvalidInput(not_http(name), url=redact(name))
    found = _resolve(entry, name)
    return found if isinstance(found, Resource) else Resource(found)


class Scheme(NamedTuple):
    """A scheme of names. `summary`: what its names are; `package`: what has its resolver, with a version; `missing`:
    what it lacks, None where nothing; `available`: whether it can be used all the same."""

    name: str
    summary: str
    package: str
    missing: str | None
    available: bool

    @property
    def prefix(self) -> str:
        """How its names begin."""
        return f"{self.name}:" if self.name in _WITHOUT_SLASHES else f"{self.name}://"


def schemes() -> list[Scheme]:
    """All schemes that can be used, or could be: URLs, getm's own, and those of packages."""
    found = [Scheme(name, "URLs", "getm", None, True) for name in ("https", "http")]
    own = [EntryPoint(scheme, value, GROUP) for scheme, value in BUILT_IN.items()]
    others = [entry for entry in entry_points(group=GROUP) if entry.name not in BUILT_IN]
    return found + [_scheme(entry) for entry in (*own, *sorted(others, key=lambda entry: entry.name))]


def _scheme(entry: EntryPoint) -> Scheme:
    package = "getm" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
    need = _NEEDS.get(entry.name)
    missing, available = None, True
    if need is not None and not _is_installed(need.module):
        missing, available = need.text(), need.purpose is not None
    try:
        with importing:
            summary = (entry.load().__doc__ or "").strip().partition("\n")[0]
    except Exception as error:  # a package's own code, which may raise anything
        summary, available = "", False
        missing = f"it cannot be imported ({type(error).__name__}: {brief(str(error))})"
    return Scheme(entry.name, summary, package, missing, available)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        # The package that it is in is not there either.
        return False


def label_of(provider: Provider) -> str:
    """What to call a provider in messages."""
    function: Any = provider.func if isinstance(provider, partial) else provider
    return str(getattr(function, "__qualname__", type(function).__name__))


def has_lister(name: str) -> bool:
    """Whether there is a lister for the scheme of `name`."""
    return _entry(name, LISTERS) is not None


def find_lister(name: str) -> Lister:
    """The lister for the scheme of `name`. Raises `InvalidInput` where there is none, `ResolveFailed` where it cannot
    be imported."""
    entry = _entry(name, LISTERS)
    if entry is None:
        listed = sorted({*BUILT_IN_LISTERS, *(entry.name for entry in entry_points(group=LISTERS))})
        raise InvalidInput(
            f"only names that begin so can be listed: {', '.join(f'{scheme}://' for scheme in listed)}",
            url=redact(name),
        )
    try:
        with importing:
            lister: Lister = entry.load()
    except Exception as error:  # a package's own code, which may raise anything
        raise ResolveFailed(
            f"the lister for {entry.name}:// cannot be imported ({type(error).__name__}: {brief(str(error))})"
        ) from error
    return lister


def _entry(name: str, group: str = GROUP) -> EntryPoint | None:
    scheme = scheme_of(name)
    return None if scheme is None else _entry_for(scheme, group)


@lru_cache
def _entry_for(scheme: str, group: str) -> EntryPoint | None:
    """The resolver, or the lister, for that scheme: getm's own, or else that of a package that is installed, of several
    the first on the path. None where there is none."""
    own = BUILT_IN if group == GROUP else BUILT_IN_LISTERS
    if scheme in own:
        return EntryPoint(scheme, own[scheme], group)
    return next(iter(entry_points(group=group, name=scheme)), None)


def _resolve(entry: EntryPoint, name: str) -> str | Resource:
    with importing:
        resolver: Resolver = entry.load()
    return resolver(name)
