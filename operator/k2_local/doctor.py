"""`k2 doctor`: what K2 needs, one check each, none of which stops the others."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from k2.bus.admin import cluster_id
from k2.lake.catalog import open_catalog
from k2.model.errors import K2Error
from k2.model.locations import local_path
from k2.model.settings import Settings, settings
from k2_local.services import artifacts

LOW_DISK_BYTES = 5 * 10**9


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's."""

    name: str
    well: bool
    text: str


def checks() -> Iterator[Check]:
    """Examine the platform that the environment or the data directory names."""
    found = settings()
    examined: list[tuple[str, Callable[[Settings], str]]] = [
        ("java", _java),
        ("disk", _disk),
        ("kafka", _kafka),
        ("registry", _registry),
        ("catalog", _catalog),
        ("store", _store),
        ("clock", _clock),
        ("extensions", _extensions),
    ]
    for name, examine in examined:
        try:
            yield Check(name, well=True, text=examine(found))
        except (K2Error, OSError, ValueError, PackageNotFoundError) as error:
            yield Check(name, well=False, text=f"{error}")


def _java(_: Settings) -> str:
    done = subprocess.run([str(artifacts.java()), "-version"], capture_output=True, text=True, timeout=30, check=True)
    return done.stderr.splitlines()[0]


def _disk(found: Settings) -> str:
    place = found.data_dir if found.data_dir.exists() else Path.cwd()
    free = shutil.disk_usage(place).free
    text = f"{free / 1e9:.0f} GB free at {place.absolute()}"
    if free < LOW_DISK_BYTES:
        raise OSError(f"{text}, expected at least {LOW_DISK_BYTES / 1e9:.0f} GB")
    return text


def _kafka(found: Settings) -> str:
    config = found.kafka_config()
    return f"cluster {cluster_id(config)} at {config['bootstrap.servers']}"


def _registry(found: Settings) -> str:
    url = found.registry_config()["url"]
    with urllib.request.urlopen(f"{url}/subjects", timeout=10) as answer:  # noqa: S310 - the address that the user gave
        return f"answers {answer.status} at {url}"


def _catalog(found: Settings) -> str:
    catalog = open_catalog(found)
    try:
        names = [".".join(name) for name in catalog.list_namespaces()]
        return f"{found.catalog_config().get('uri', found.catalog_name)}, namespaces: {', '.join(names) or 'none'}"
    finally:
        catalog.close()


def _store(found: Settings) -> str:
    warehouse = found.catalog_config().get("warehouse", "")
    if not warehouse.startswith("file:"):
        return f"{warehouse or 'chosen by the catalog'} (not examined)"
    folder = Path(local_path(warehouse))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"x")
    return f"{folder} can be written"


def _clock(_: Settings) -> str:
    now = time.time()
    if now < 1_735_689_600:  # 2025-01-01: a machine that has lost its time
        raise ValueError(f"this machine's clock says {time.ctime(now)}: ingestion times would be wrong; set it")
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(now))} UTC"


def _extensions(_: Settings) -> str:
    engine, httpfs = version("duckdb"), version("duckdb-extension-httpfs")
    if engine != httpfs:
        raise ValueError(f"DuckDB {engine} with httpfs {httpfs}: they must be the same version. Run `make setup`")
    return f"DuckDB {engine} with httpfs {httpfs}"
