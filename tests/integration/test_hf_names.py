"""hf:// names, at a server that answers like the Hugging Face Hub: it redirects to storage by a signed URL, with the
SHA-256 in the redirect; small files that git has it sends by a redirect within itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import safetensors.numpy

import getm
from getm import errors
from getm.resolve import hf
from getm.testing import FaultServer, Reply, Request, failure, redirect
from tests.support.command import getm as run_getm
from tests.support.documentation import blocks_run_by, run_block
from tests.support.hub import forget_account
from tests.support.signing import SignedObject, cut

BODY = hashlib.shake_256(b"hub").digest(2_000_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
TOKEN = "hf_SECRET"


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_account(monkeypatch, tmp_path / "home")


@pytest.fixture
def storage() -> Iterator[SignedObject]:
    """Where the hub has the bytes; each signature is good for two requests."""
    with FaultServer() as server:
        yield SignedObject(server, cut(BODY, 300_000), uses=2)


@pytest.fixture
def hub(fault_server: FaultServer, storage: SignedObject, monkeypatch: pytest.MonkeyPatch) -> FaultServer:
    def gated(request: Request) -> Reply:
        if request.header("Authorization") != f"Bearer {TOKEN}":
            return failure(401)
        return redirect(
            storage.sign(), X_Linked_Etag=f'"{SHA256}"', X_Linked_Size=str(len(BODY)), X_Repo_Commit="0123abcd"
        )

    fault_server.serve("/org/model/resolve/main/a%20b/model.safetensors", gated)
    fault_server.serve("/datasets/org/data/resolve/refs%2Fpr%2F1/x.csv", redirect("/api/resolve-cache/x", 307))
    fault_server.serve("/api/resolve-cache/x", Reply(body=b"a,b\n"))
    monkeypatch.setenv("HF_ENDPOINT", f"{fault_server.url('')}/")
    return fault_server


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=getm.Retries(3, base_s=0.001, cap_s=0.01))


MODEL = "hf://org/model/a b/model.safetensors"


@pytest.mark.parametrize("concurrency", [1, 4, None, "auto"])
def test_a_file_in_storage(
    concurrency: int | None,
    hub: FaultServer,
    storage: SignedObject,
    session: getm.Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It outlives the signatures of the redirects, and the storage gets no token."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with session.urlopen(MODEL, concurrency=concurrency, strict=True) as fh:
        assert fh.read() == BODY
        assert (str(fh.checksum.checksum), fh.checksum.source) == (f"sha256:{SHA256}", "X-Linked-Etag")
    assert len(storage.used) >= 3
    assert storage.tokens == 0


def test_a_file_in_git_and_revisions(hub: FaultServer, session: getm.Session) -> None:
    for name in ("hf://datasets/org/data@refs/pr/1/x.csv", "hf://datasets/org/data@refs%2Fpr%2F1/x.csv"):
        assert bytes(session.read(name)) == b"a,b\n"


def test_where_a_token_may_be(hub: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not hf.resolve(MODEL).headers
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").write_text("of the home\n")
    assert dict(hf.resolve(MODEL).headers) == {"Authorization": "Bearer of the home"}
    (tmp_path / "file").write_text("of a file")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "file"))
    assert dict(hf.resolve(MODEL).headers) == {"Authorization": "Bearer of a file"}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert dict(hf.resolve(MODEL).headers) == {"Authorization": f"Bearer {TOKEN}"}


def test_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hf.resolve("hf://org/model/config.json").url == "https://huggingface.co/org/model/resolve/main/config.json"
    assert (
        urlsplit(hf.resolve("hf://spaces/org/app@v1.0/a?b#c.py").url).path
        == "/spaces/org/app/resolve/v1.0/a%3Fb%23c.py"
    )
    for name in ("hf://org", "hf://org/model", "hf://org/model@main", "hf://datasets/org/data", "hf://org/model/"):
        with pytest.raises(errors.InvalidInput, match="expected hf://ORG/NAME"):
            hf.resolve(name)


def test_the_command(hub: FaultServer, tmp_path: Path) -> None:
    run = run_getm(MODEL, "--strict", "-vv", "--receipt", "receipt", cwd=tmp_path, variables={"HF_TOKEN": TOKEN})
    assert run.returncode == 0 and (tmp_path / "model.safetensors").read_bytes() == BODY
    receipt = (tmp_path / "receipt").read_text()
    assert MODEL in receipt and "SECRET" not in receipt
    run = run_getm(MODEL, "other", cwd=tmp_path)
    assert run.returncode == 8 and b"401 Unauthorized; give credentials" in run.stderr


def test_the_page(fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/how-to/hugging-face.md shows, with names of the hub and a model of one tensor."""
    model = safetensors.numpy.save({"wte.weight": np.zeros((50257, 4), "f2"), "wpe.weight": np.zeros((1024, 4), "f2")})
    storage = fault_server.serve("/storage", Reply(body=model, etag='"1"', ranges=True))
    sha256 = hashlib.sha256(model).hexdigest()
    linked = redirect(storage, X_Linked_Etag=f'"{sha256}"', X_Linked_Size=str(len(model)))
    fault_server.serve("/openai-community/gpt2/resolve/main/model.safetensors", linked)
    fault_server.serve("/datasets/stanfordnlp/imdb/resolve/main/README.md", Reply(body=b"# IMDB\n"))
    monkeypatch.setenv("HF_ENDPOINT", fault_server.url(""))
    printed = []
    for number, block in enumerate(blocks_run_by("how-to/hugging-face.md", __file__)):
        folder = tmp_path / str(number)
        folder.mkdir()
        status, output = run_block(block, folder)
        assert status == 0, output
        printed.append(output)
    assert printed == [
        f"{len(model)} verified: sha256:{sha256} (from X-Linked-Etag)\n",
        "{'wte.weight': (50257, 4)}\n",
        "gpt2/model.safetensors: OK\n",
    ]
