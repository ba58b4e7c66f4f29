"""Programs from Debian's packages, unpacked into the cache (K2_CACHE_DIR) and never installed."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from k2_local.services.artifacts import cache_dir
from k2_testing.controlplane import UnavailableError


def unpacked(name: str, packages: Sequence[str], *, with_dependencies: bool = False) -> Path:
    """The root of what these packages hold, fetched once. Dependencies that are installed already are not fetched.

    Raises:
        UnavailableError: this is no Debian, or its packages cannot be fetched.
    """
    folder = cache_dir() / name
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / "root"
    with _alone(folder / "lock"):
        if not root.exists():
            _fetch(folder, root, packages, with_dependencies=with_dependencies)
    return root


@contextmanager
def _alone(path: Path) -> Generator[None]:
    """One test process at a time fills the cache."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _fetch(folder: Path, root: Path, packages: Sequence[str], *, with_dependencies: bool) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise UnavailableError(f"no {packages[0]} on PATH, and this is no Debian to fetch it from")
    lists, cache, found = folder / "lists", folder / "packages", folder / "packages/archives"
    for made in (lists / "partial", found / "partial"):
        made.mkdir(parents=True, exist_ok=True)
    # apt's own lists, cache and locks are left alone, so that it needs no root.
    apt = ["apt-get", "-q", "-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}"]
    apt += ["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="]
    _run([*apt, "update"], packages[0])
    how = ["install", "--yes", "--download-only", "--reinstall", "--no-install-recommends"]
    _run([*apt, *(how if with_dependencies else ["download"]), *packages], packages[0], found)
    draft = folder / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    for package in sorted(found.glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(draft)], packages[0])
    if not draft.exists():
        raise UnavailableError(f"Debian gave no package of {packages[0]}")
    draft.rename(root)
    shutil.rmtree(cache)
    shutil.rmtree(lists)


def _run(command: list[str], what: str, folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UnavailableError(f"no {what} on PATH, and Debian's cannot be fetched: {command[0]}: {reason}")
