"""Chromium for the tests of the page: the machine's own, or Debian's packages unpacked into the cache, never installed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Playwright
from playwright.sync_api import Error as BrowserError
from playwright.sync_api import TimeoutError as SlowError

from k2_local.services.artifacts import cache_dir

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PACKAGES = ("chromium", "fonts-dejavu-core")
_SANS = ("sans", "sans-serif", "system-ui")


class UnavailableError(Exception):
    """There is no Chromium to be had here; the text says why, for a skip."""


@dataclass(frozen=True, slots=True)
class Chromium:
    """A program, and what its environment must have."""

    program: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])

    def launch(self, playwright: Playwright) -> Browser:
        """Start it without a window.

        Raises:
            UnavailableError: it does not start here.
        """
        try:
            return playwright.chromium.launch(
                executable_path=self.program,
                # Containers give neither root's sandbox nor a large /dev/shm; the pages are our own.
                args=["--no-sandbox", "--disable-dev-shm-usage"],
                env=os.environ | self.environment,
            )
        except SlowError:
            raise  # a slow start is none that cannot be had
        except BrowserError as error:
            said = [line for line in str(error).splitlines() if "[err]" in line] or str(error).splitlines()
            raise UnavailableError(f"{self.program} does not start: {said[0]}") from error


def chromium() -> Chromium:
    """`K2_CHROMIUM`, one on PATH, or Debian's, fetched once (125 MB; 400 MB in the cache).

    Raises:
        UnavailableError: there is none, and none can be fetched.
    """
    named = os.environ.get("K2_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if named:
        return Chromium(Path(named))
    folder = cache_dir() / "chromium"
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / "root"
    with _alone(folder / "lock"):
        if not root.exists():
            _fetch(folder, root)
    program = root / "usr/lib/chromium/chromium"
    libraries = sorted({str(file.parent) for file in root.rglob("lib*.so*") if file.parent != program.parent})
    fonts = folder / "fonts.conf"
    fonts.write_text(
        f"<fontconfig><include ignore_missing='yes'>/etc/fonts/fonts.conf</include><dir>{root}/usr/share/fonts</dir>"
        f"<cachedir>{folder}/fonts</cachedir>"
        + "".join(
            f"<alias><family>{name}</family><prefer><family>DejaVu Sans</family></prefer></alias>" for name in _SANS
        )
        + "</fontconfig>"
    )
    return Chromium(program, {"LD_LIBRARY_PATH": ":".join(libraries), "FONTCONFIG_FILE": str(fonts)})


@contextmanager
def _alone(path: Path) -> Generator[None]:
    """One test process at a time fills the cache."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _fetch(folder: Path, root: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise UnavailableError("no Chromium on PATH (or in K2_CHROMIUM), and this is no Debian to fetch it from")
    lists, cache = folder / "lists", folder / "packages"
    for made in (lists / "partial", cache / "archives/partial"):
        made.mkdir(parents=True, exist_ok=True)
    # apt's own lists, cache and locks are left alone, so that it needs no root.
    apt = ["apt-get", "-q", "-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}"]
    apt += ["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="]
    _run([*apt, "update"])
    # What is installed already is not fetched: the rest finds it where it is.
    _run([*apt, "install", "--yes", "--download-only", "--reinstall", "--no-install-recommends", *_PACKAGES])
    draft = folder / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    for package in sorted((cache / "archives").glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(draft)])
    if not (draft / "usr/lib/chromium/chromium").exists():
        raise UnavailableError("Debian's package of Chromium does not hold the program where it was expected")
    draft.rename(root)
    shutil.rmtree(cache)
    shutil.rmtree(lists)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UnavailableError(f"no Chromium on PATH, and Debian's cannot be fetched: {command[0]}: {reason}")
