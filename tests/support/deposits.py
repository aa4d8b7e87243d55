"""The registry of DOIs, and repositories of data, as their documents say that they answer: Zenodo (InvenioRDM),
figshare and Dataverse. Files are served by the same server, at the URLs that the repositories give."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from getm.testing import Reply, Request, failure
from tests.support.named_hosts import NamedHosts, as_json

HOSTS = ("doi.org", "zenodo.org", "figshare.com", "api.figshare.com", "ndownloader.figshare.com", "dataverse.test")

Files = Mapping[str, bytes]


def register(hosts: NamedHosts, doi: str, landing: str) -> None:
    """Have the registry know a DOI."""
    values = [
        {"index": 100, "type": "HS_ADMIN", "data": {"format": "admin", "value": {"handle": "10.x/y", "index": 200}}},
        {"index": 1, "type": "URL", "data": {"format": "string", "value": landing}, "ttl": 86400},
    ]
    hosts.serve_json(f"/api/handles/{doi}", {"responseCode": 1, "handle": doi, "values": values})


def zenodo(hosts: NamedHosts, number: int, files: Files, *, form: str = "usual") -> str:
    """A record; its DOI. `form` "2023": as Zenodo had it in autumn of that year."""
    listed = []
    for name, body in files.items():
        digest, quoted = hashlib.md5(body).hexdigest(), name.replace(" ", "%20")
        if form == "usual":
            path = f"/api/records/{number}/files/{quoted}/content"
            links = {"self": f"https://zenodo.org{path}"}
            listed.append({"id": "x", "key": name, "size": len(body), "checksum": f"md5:{digest}", "links": links})
        else:
            path = f"/records/{number}/files/{quoted}"
            listed.append({"id": "x", "filename": name, "filesize": len(body), "checksum": digest, "links": {}})
        hosts.server.serve(path, Reply(body=body))
    hosts.serve_json(f"/api/records/{number}", {"id": number, "conceptrecid": "1", "files": listed})
    doi = f"10.5281/zenodo.{number}"
    register(hosts, doi, f"https://zenodo.org/record/{number}")
    return doi


def figshare(hosts: NamedHosts, number: int, files: Files, *, version: int = 1, last: int = 1) -> str:
    """A version of an article; its DOI. `last`: the number of the last version."""
    listed = []
    for at, (name, body) in enumerate(files.items()):
        hosts.server.serve(f"/files/{number}{at}", Reply(body=body))
        url = f"https://ndownloader.figshare.com/files/{number}{at}"
        digest = hashlib.md5(body).hexdigest()
        listed.append(
            {"id": at, "name": name, "size": len(body), "computed_md5": digest, "supplied_md5": "", "download_url": url}
        )
    article = {"id": number, "version": version, "files": listed[:10]}
    hosts.serve_json("/v2/articles", [{"id": number, "title": "x"}])
    hosts.serve_json(f"/v2/articles/{number}", {**article, "version": last})
    hosts.serve_json(f"/v2/articles/{number}/versions/{version}", article)

    def page(request: Request) -> Reply:
        # "page=1&page_size=1000"
        first, size = (int(pair.rpartition(b"=")[2]) for pair in request.target.rpartition(b"?")[2].split(b"&"))
        return as_json(listed[(first - 1) * size : first * size])

    hosts.server.serve(f"/v2/articles/{number}/files", page)
    doi = f"10.6084/m9.figshare.{number}.v{version}"
    register(hosts, doi, f"https://figshare.com/articles/dataset/x/{number}/{version}")
    return doi


def dataverse(hosts: NamedHosts, files: Files, *, tables: Mapping[str, tuple[str, bytes]] | None = None) -> str:
    """A dataset; its DOI. `tables`: names of tables in the form of Dataverse, and their originals."""
    listed = []
    for at, (path, body) in enumerate(files.items()):
        folder, _, name = path.rpartition("/")
        digest = {"type": "SHA-1", "value": hashlib.sha1(body).hexdigest()}
        data: dict[str, object] = {"id": at, "filename": name, "filesize": len(body), "checksum": digest}
        hosts.server.serve(f"/api/access/datafile/{at}", Reply(body=body))
        if tables is not None and path in tables:
            original, content = tables[path]
            data |= {"originalFileName": original, "originalFileSize": len(content), "originalFileFormat": "text/csv"}
            data |= {"checksum": None, "md5": hashlib.md5(content).hexdigest()}
            hosts.server.serve(f"/api/access/datafile/{at}", _in_the_form_of(content, body))
        listed.append({"label": name, **({"directoryLabel": folder} if folder else {}), "dataFile": data})
    hosts.serve_json("/api/datasets/:persistentId/", {"status": "OK", "data": {"latestVersion": {"files": listed}}})
    doi = "10.7910/DVN/ABCDEF"
    register(hosts, doi, f"https://dataverse.test/citation?persistentId=doi:{doi}")
    hosts.server.serve("/api/handles/10.7910/DVN", failure(404))
    return doi


def _in_the_form_of(original: bytes, other: bytes) -> Callable[[Request], Reply]:
    return lambda request: Reply(body=original if b"format=original" in request.target else other)
