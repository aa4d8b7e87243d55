"""What getm's requirements weigh, as the tables of docs/explanation/dependencies.md and docs/start/install.md.

    python dev_scripts/weigh.py [EXTRA ...]

Installs getm, and getm with each extra (those given, or all that are for users), into virtual environments of their
own, and prints sizes without compiled bytecode, licences, and the time of an import in a new interpreter: the shortest
of nine. Needs a package index, and up to 1 GB below the folder for temporary files.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOR_DEVELOPERS = {"bench", "dev", "docs", "package", "quick-test", "test", "workflows"}
MODULES = {"http-sf": "http_sf"}
IMPORTS = 9

# Runs in the environment that is weighed: each distribution with its version, licence and size.
_LIST = """
import json, sys
from importlib import metadata
found = {}
for distribution in metadata.distributions(path=[sys.argv[1]]):
    meta = distribution.metadata
    classified = [c.rpartition(" :: ")[2] for c in meta.get_all("Classifier", []) if c.startswith("License ::")]
    licence = meta.get("License-Expression") or ", ".join(classified) or (meta.get("License") or "?").splitlines()[0]
    files = [distribution.locate_file(file) for file in distribution.files or [] if "__pycache__" not in file.parts]
    size = sum(file.stat().st_size for file in files if file.is_file())
    found[meta["Name"].lower()] = [distribution.version, licence, size]
print(json.dumps(found))
"""


def installed(folder: Path, what: str) -> dict[str, tuple[str, str, int]]:
    """Install `what` into a new environment; the name, version, licence and bytes of all that is there then but pip."""
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-compile", what], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    listing = subprocess.run([python, "-c", _LIST, site], check=True, stdout=subprocess.PIPE).stdout
    found: dict[str, Any] = json.loads(listing)
    return {name: tuple(facts) for name, facts in found.items() if name not in ("pip", "setuptools")}


def import_ms(python: Path, module: str) -> float:
    """Milliseconds that a new interpreter takes to import a module, with all that it imports."""
    command: list[str | Path] = [python, "-I", "-X", "importtime", "-c", f"import {module}"]
    times = []
    for _ in range(IMPORTS):
        lines = subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True).stderr.splitlines()
        times.append(int(lines[-1].split("|")[1]) / 1000)
    return min(times)


def weigh(extras: list[str]) -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base = installed(folder / "base", str(ROOT))
        required = [needed.partition(">")[0] for needed in PROJECT["dependencies"]]
        print("| package | licence | MB | import, ms |\n|---|---|---|---|")
        for name in [*required, *sorted(set(base) - {*required, "getm"}), "getm"]:
            version, licence, size = base[name]
            named = name in required or name == "getm"
            took = f"{import_ms(folder / 'base/bin/python', MODULES.get(name, name)):.0f}" if named else ""
            print(f"| {name} {version} | {licence} | {size / 1e6:.1f} | {took} |")
        total = sum(size for _, _, size in base.values())
        print(f"\nAll: {total / 1e6:.0f} MB\n\n| extra | MB | packages |\n|---|---|---|")
        for extra in extras:
            there = installed(folder / extra, f"{ROOT}[{extra}]")
            more = {name: size for name, (_, _, size) in there.items() if name not in base}
            print(
                f"| `{extra}` | {sum(more.values()) / 1e6:.1f} | {len(more)}: {', '.join(sorted(more))} |", flush=True
            )
            shutil.rmtree(folder / extra)


if __name__ == "__main__":
    weigh(sys.argv[1:] or sorted(set(PROJECT["optional-dependencies"]) - FOR_DEVELOPERS))
