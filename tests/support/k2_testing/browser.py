"""Chromium for the tests of the page: the machine's own, or Debian's packages unpacked into the cache, never installed."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Playwright
from playwright.sync_api import Error as BrowserError
from playwright.sync_api import TimeoutError as SlowError

from k2_testing import debian
from k2_testing.controlplane import UnavailableError

__all__ = ["Chromium", "UnavailableError", "chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PACKAGES = ("chromium", "fonts-dejavu-core")
_SANS = ("sans", "sans-serif", "system-ui")


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
    root = debian.unpacked("chromium", _PACKAGES, with_dependencies=True)
    folder, program = root.parent, root / "usr/lib/chromium/chromium"
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
