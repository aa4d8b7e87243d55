"""Running one measurement in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def run_job(module: str, job: dict[str, Any]) -> dict[str, Any]:
    """The result of `job`, given to `module` as JSON; where there is none, "why_not" says why."""
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    if done.returncode != 0:
        return {"why_not": f"failed: {(done.stderr.splitlines() or ['(silently)'])[-1]}"}
    result: dict[str, Any] = json.loads(done.stdout)
    return result
