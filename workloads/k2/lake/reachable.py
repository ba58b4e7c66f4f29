"""Whether the catalog and the store of the tables answer: one cheap question each, by who watches them for many others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlparse

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import ForbiddenError, NoSuchTableError
from pyiceberg.io import load_file_io
from pyiceberg.table import Table

from k2.lake.catalog import open_named
from k2.lake.time_limits import with_limits
from k2.model.errors import WorldError

ANSWER_SECONDS = 10.0
"""How long a catalog may be silent at such a question (PostgreSQL: as long as at any other)."""

STORE_CONNECT_SECONDS, STORE_ANSWER_SECONDS = 2.0, 3.0
"""How long a connection to the object store, and its silence, may take at each of the SDK's three tries."""

_ON_DISK = ("", "file")


class AbsentError(WorldError):
    """What was to be asked is not there: as before its first use, or no more."""


def ask_catalog(name: str, properties: Mapping[str, str], seconds: float = ANSWER_SECONDS) -> None:
    """Ask a catalog for its namespaces: a question that its database answers.

    Raises:
        AbsentError: there is no such file of SQLite's. Whoever opens the catalog makes an empty one.
        Exception: it does not answer, or does not take the credentials.
    """
    path = _sqlite_path(properties.get("uri", ""))
    if path is not None and not path.exists():
        raise AbsentError(f"The catalog is not there: {path}")
    catalog = open_named(name, properties, seconds)
    try:
        catalog.list_namespaces()
    except (ForbiddenError, NotImplementedError):
        return  # it answers; what it keeps from us is asked for nowhere else
    finally:
        catalog.close()


def ask_store(name: str, properties: Mapping[str, str], table: str | None, seconds: float = ANSWER_SECONDS) -> bool:
    """Ask the store whether the warehouse is there; where the catalog alone knows the store, for the metadata of a table.

    Args:
        name: of the catalog.
        properties: PyIceberg's, of the catalog.
        table: identifier of a table that should be there, if there is any.
        seconds: how long the catalog may be silent.

    Returns:
        Whether there was anything to ask for: not without a table, where the catalog alone knows the store.

    Raises:
        AbsentError: there is no such folder on this machine's disk.
        Exception: the store does not answer, or does not take the credentials.
    """
    limits = {"s3.connect-timeout": f"{STORE_CONNECT_SECONDS}", "s3.request-timeout": f"{STORE_ANSWER_SECONDS}"}
    config = {**limits, **properties}
    warehouse = config.get("warehouse", "")
    if not _is_rest(config) and _is_location(warehouse):
        files, location = load_file_io(with_limits(config, seconds), warehouse), warehouse
    else:
        catalog = open_named(name, config, seconds)
        try:
            loaded = None if table is None else _table(catalog, table)
        finally:
            catalog.close()
        if loaded is None:
            return False
        # With the credentials that the catalog lends for it.
        files, location = loaded.io, loaded.metadata_location
    # An object store that has nothing of that name has answered; a folder that is gone was on a disk that is gone.
    if not files.new_input(location).exists() and urlparse(location).scheme in _ON_DISK:
        raise AbsentError(f"The store of the tables is not there: {location}")
    return True


def _table(catalog: Catalog, identifier: str) -> Table | None:
    try:
        return catalog.load_table(identifier)
    except NoSuchTableError:
        return None


def _is_rest(properties: Mapping[str, str]) -> bool:
    """Whether only the catalog knows what its tables' store is."""
    return properties.get("type", "") == "rest" or urlparse(properties.get("uri", "")).scheme in ("http", "https")


def _is_location(warehouse: str) -> bool:
    return "://" in warehouse or warehouse.startswith(("/", "file:"))


def _sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite catalog; None for any other, and for one in memory."""
    path = uri.partition("?")[0].removeprefix("sqlite:///")
    return None if not uri.startswith("sqlite:///") or path.startswith((":", "file:")) or not path else Path(path)
