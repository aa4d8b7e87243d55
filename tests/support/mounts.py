"""File systems for a test alone: mounts that nobody else sees, and that are gone with the test run however it ends.

`enter()`, once a run, puts the calling thread and all that it starts into a mount namespace of its own. Whatever a test
mounts from then on, by this module or by mount(8), never reaches the machine, not even when the run is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_SHARED_MEMORY = Path("/dev/shm")
_CLONE_NEWNS = 0x00020000  # unshare(2)
_MS_REC, _MS_SLAVE = 0x4000, 1 << 19  # mount(2)

_refused: OSError | None = None


def enter() -> None:
    """Where the system does not permit it (it takes CAP_SYS_ADMIN), tests that need a mount skip, and say why."""
    global _refused
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        _check(libc.unshare(_CLONE_NEWNS))
        # The new namespace still passes its mounts on to the old one: from here on it only takes from it.
        _check(libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_SLAVE), None))
    except AttributeError:
        _refused = OSError("this system has no mount namespaces")
    except OSError as error:
        _refused = error


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def mounted(folder: Path, size: str = "", *, kind: str = "tmpfs") -> Iterator[Path]:
    """A file system of `kind` over `folder`, of `size` ("64m", "8g") where one is given, for the time of the block."""
    if _refused is not None:
        pytest.skip(f"no mount namespace of its own for this run, so nothing may be mounted: {_refused}")
    subprocess.run(["mount", "-t", kind, *(["-o", f"size={size}"] if size else []), kind, folder], check=True)
    try:
        yield folder
    finally:
        # Lazily: memory that lies in it may still be mapped, and goes with its last mapping.
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextlib.contextmanager
def replaced(file: Path, by: Path) -> Iterator[None]:
    """`by` in the place of `file`, for the time of the block."""
    if _refused is not None:
        pytest.skip(f"no mount namespace of its own for this run, so nothing may be mounted: {_refused}")
    subprocess.run(["mount", "--bind", by, file], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", file], check=True)


@contextlib.contextmanager
def shared_memory(size: str) -> Iterator[Path]:
    """A /dev/shm of `size`, empty."""
    with mounted(_SHARED_MEMORY, size) as folder:
        yield folder


@contextlib.contextmanager
def no_shared_memory() -> Iterator[None]:
    """A /dev with little in it, and no /dev/shm."""
    devices = Path("/dev")
    with contextlib.ExitStack() as held:
        # By descriptors, since their names are covered in a moment.
        files = {name: held.enter_context((devices / name).open("rb")).fileno() for name in ("null", "zero", "urandom")}
        held.enter_context(mounted(devices))
        (devices / "fd").symlink_to("/proc/self/fd")
        for name, number in files.items():
            (devices / name).touch()
            subprocess.run(
                ["mount", "--bind", f"/proc/self/fd/{number}", devices / name], check=True, pass_fds=[number]
            )
        yield
