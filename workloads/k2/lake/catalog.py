"""Opening the Iceberg catalog: PyIceberg's own configuration, made safe for several processes."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Protocol

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from k2.lake.metadata import copy_metadata_cheaply
from k2.lake.time_limits import ANSWER_SECONDS, with_limits
from k2.model.errors import UserError, WorldError
from k2.model.settings import Settings
from k2.obs.renewed import Renewed


def open_catalog(settings: Settings, answer_seconds: float = ANSWER_SECONDS) -> Catalog:
    """The catalog of these settings. One per thread: neither it nor its tables may be shared.

    Args:
        settings: of this process.
        answer_seconds: how long each of its calls may wait for an answer.

    Raises:
        UserError: no catalog is configured.
        WorldError: it cannot be reached.
    """
    return open_named(settings.catalog_name, settings.catalog_config(), answer_seconds)


def open_named(name: str, properties: Mapping[str, str], answer_seconds: float = ANSWER_SECONDS) -> Catalog:
    """The catalog with these properties of PyIceberg's (type, uri, warehouse, s3.endpoint, …)."""
    copy_metadata_cheaply()
    config = with_limits(dict(properties), answer_seconds)
    uri = config.get("uri", "")
    try:
        catalog = load_catalog(name, **config)
    except Exception as error:
        raise WorldError(
            f"The Iceberg catalog {name!r} ({_without_password(uri)}) cannot be opened: {error}"
        ) from error
    engine = getattr(catalog, "engine", None)
    if engine is not None:
        # An SQL catalog's pool lies in reference cycles: dropped, it would hold its connections until the garbage collector
        # runs, and whoever opens a catalog at each try (a sink that waits for its table) uses up PostgreSQL's 100.
        weakref.finalize(catalog, engine.dispose)
    return catalog


class TableSource(Protocol):
    """Where tables are loaded from: a catalog, or one that lasts."""

    def load_table(self, identifier: str) -> Table:
        """The table as it is now."""
        ...


class LastingCatalog:
    """A catalog that one thread holds for long: opened at the first use, and anew when its credentials or the store's change.

    Tables that were loaded before keep what they have; between two commits there are none.

    Args:
        settings: of this process.
        answer_seconds: how long each of its calls may wait for an answer.
    """

    def __init__(self, settings: Settings, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._opened = Renewed(
            settings.catalog_config,
            lambda properties: open_named(settings.catalog_name, properties, answer_seconds),
            "catalog",
            close=lambda catalog: catalog.close(),
        )

    def load_table(self, identifier: str) -> Table:
        """The table as it is now.

        Raises:
            WorldError: the catalog cannot be opened.
            Exception: whatever PyIceberg raises.
        """
        return self._opened.now().load_table(identifier)

    def close(self) -> None:
        """Close the connections."""
        self._opened.end()


def load_table(catalog: TableSource, identifier: str) -> Table:
    """Load a table anew from the catalog, or a `UserError` that says how tables come to be."""
    try:
        return catalog.load_table(identifier)
    except NoSuchTableError as error:
        raise UserError(
            f"There is no table {identifier}",
            expected="a table made by an IcebergTable resource",
            remedy="Apply one (manifests/samples/tables.yaml shows the built-in three)",
        ) from error


def _without_password(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    if "@" not in rest:
        return uri
    return f"{scheme}{separator}***@{rest.rsplit('@', 1)[1]}"
