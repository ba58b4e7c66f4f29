"""Catalog and store: whether they answer, and with leave to write whether they take a commit, a file, a listing, a deletion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from k2.doctor.checks import Check, DoubtfulError, Group, SkippedError, WrongError
from k2.lake.burden import Burden, burden, described
from k2.lake.catalog import load_table, open_catalog
from k2.lake.offsets import TopicOffsets, recorded_offsets
from k2.lake.scratch import Scratch
from k2.model.errors import K2Error, UserError
from k2.model.settings import Settings
from k2.model.tables import NAMESPACE
from k2.model.topics import DataType

ANSWER_SECONDS = 4.0
REACHED = ("catalog-configured", "catalog-reachable", "catalog-credentials")
"""What a check of anything in the catalog builds on."""

MOST_SNAPSHOTS = 1000
"""A sink keeps 300 beside the tagged ones. Each is a kilobyte of metadata, which every commit writes and every question reads."""

MOST_METADATA_BYTES = 16 * 2**20
"""Such a file takes a commit, or the first question after it, about a second."""

_MANY_SECONDS = 30.0
"""All tables are loaded, and the manifests of their newest partitions read."""

_REFUSALS = ("password", "401", "403", "unauthorized", "forbidden", "access denied", "not authorized")


T = TypeVar("T")


def catalog(settings: Settings) -> Group:
    """Checks of the catalog that write nothing."""
    refused: list[str] = []

    def configured() -> str:
        properties = settings.catalog_config()
        if not {"type", "uri", "py-catalog-impl"} & properties.keys():
            raise UserError(
                "The catalog's properties do not say what it is",
                found=", ".join(sorted(properties)),
                expected="type (sql, rest, glue, …) and uri",
                remedy="Set platform.catalog.properties (K2_CATALOG_PROPERTIES)",
            )
        warehouse = properties.get("warehouse", "of its own choice")
        return f"{settings.catalog_name}: {properties.get('type', 'by its uri')}, warehouse {warehouse}"

    def answers() -> str:
        try:
            with open_catalog(settings, ANSWER_SECONDS) as found:
                names = [".".join(name) for name in found.list_namespaces()]
        except Exception as error:
            # A refusal comes in as many shapes as there are drivers.
            if any(word in str(error).lower() for word in _REFUSALS):
                refused.append(str(error))
                return "it answers"
            raise
        return f"namespaces: {', '.join(names) or 'none'}"

    def let_in() -> str:
        if refused:
            raise WrongError(refused[0])
        return "it takes us"

    return Group(
        "Catalog",
        [
            Check("catalog-configured", configured),
            Check(
                "catalog-reachable",
                answers,
                REACHED[:1],
                "Look at its uri, whether the server or database runs, and whether a network policy or firewall lies between.",
            ),
            Check(
                "catalog-credentials",
                let_in,
                REACHED[:2],
                "Compare user and password (platform.catalog.secretName, a key for each property) with what the catalog has.",
            ),
        ],
    )


def tables(settings: Settings) -> Group:
    """Checks of the tables that are there: whether their metadata can be read, and what weighs on them."""

    @cache
    def burdens() -> dict[str, Burden]:
        return _of_each(settings, burden)

    def readable() -> str:
        there = recorded(settings)
        if not there:
            raise SkippedError("there are no tables yet")
        return f"{', '.join(there)} can be read"

    def compacted() -> str:
        many = [
            f"{name}: {described(each.crowded, each.target_bytes)}"
            for name, each in burdens().items()
            if each.crowded is not None
        ]
        if many:
            raise DoubtfulError("; ".join(many))
        return "the newest partitions lie in about as few files as their size takes"

    def snapshots() -> str:
        held = {name: each.snapshots for name, each in burdens().items()}
        if many := [f"{name} has {number:,} snapshots" for name, number in held.items() if number > MOST_SNAPSHOTS]:
            raise DoubtfulError("; ".join(many))
        return f"at most {max(held.values(), default=0):,} snapshots in a table"

    def metadata_size() -> str:
        sizes = {name: each.metadata_bytes for name, each in burdens().items()}
        large = [
            f"the metadata of {name} is {size / 2**20:,.0f} MiB"
            for name, size in sizes.items()
            if size > MOST_METADATA_BYTES
        ]
        if large:
            raise DoubtfulError("; ".join(large))
        return f"metadata of at most {max(sizes.values(), default=0) / 2**10:,.0f} KiB"

    needs = (*REACHED, "tables-readable")
    return Group(
        "Tables",
        [
            Check(
                "tables-readable",
                readable,
                REACHED,
                "Look at the warehouse, and at s3.* among the catalog's properties and in its Secret; what is lost is named by "
                "`k2 audit --deep`.",
            ),
            Check(
                "tables-compacted",
                compacted,
                needs,
                "`k2 upkeep compact --table TABLE`, by a schedule too (spec.upkeep.compaction of the IcebergTable); commit less often "
                "(spec.sink.commitInterval of the feeds).",
                _MANY_SECONDS,
            ),
            Check(
                "tables-snapshots",
                snapshots,
                needs,
                "Let pins and tags go that nobody needs; what other engines have left, let them expire: Trino's `expire_snapshots`, "
                "Spark's `expire_snapshots`.",
                _MANY_SECONDS,
            ),
            Check(
                "tables-metadata-size",
                metadata_size,
                needs,
                "Expire snapshots first (tables-snapshots); then look for long schemas of many versions and large properties in it.",
                _MANY_SECONDS,
            ),
        ],
    )


def recorded(settings: Settings) -> dict[str, Mapping[str, TopicOffsets]]:
    """Of each table that is there: what it holds of each topic.

    Raises:
        WrongError: some cannot be read; each is named.
    """
    return _of_each(settings, lambda table: recorded_offsets(table).topics)


def _of_each(settings: Settings, look: Callable[[Any], T]) -> dict[str, T]:
    found: dict[str, T] = {}
    broken: list[str] = []
    with open_catalog(settings, ANSWER_SECONDS) as opened:
        for name in _names(settings):
            try:
                table = load_table(opened, name)
            except UserError:
                continue  # there is none
            except Exception as error:  # noqa: BLE001 - catalogs and stores raise whatever they like
                broken.append(f"{name}: {error}")
                continue
            found[name] = look(table)
    if broken:
        raise WrongError("; ".join(broken))
    return found


def _names(settings: Settings) -> list[str]:
    """The tables that questions of this platform go to."""
    found = (settings.tables.get(data_type, [f"{NAMESPACE}.{data_type}"]) for data_type in DataType)
    return [name for names in found for name in ([names] if isinstance(names, str) else names)]


def store(settings: Settings) -> Group:
    """Checks that write: a table of their own, a commit, and a file beside it. All of it is gone at the end."""
    scratch = Scratch(settings, ANSWER_SECONDS)

    def committed() -> str:
        scratch.commit()
        return "a table was made, and changed by a commit"

    def put() -> str:
        return f"a file was written and read: {scratch.write()}"

    def list_files() -> str:
        scratch.list_files()
        return "a listing shows it"

    def delete() -> str:
        scratch.delete()
        return "it was deleted"

    def remove() -> None:
        try:
            scratch.remove()
        except (K2Error, OSError, ValueError):
            return  # what could not be made cannot be removed; its name says what it is

    return Group(
        "Store",
        [
            Check(
                "catalog-commit",
                committed,
                REACHED,
                "Give the catalog's user the right to create namespaces and tables, and the store's to write below the warehouse.",
            ),
            Check("store-put", put, ["catalog-commit"], "Give the store's user s3:PutObject and s3:GetObject."),
            Check(
                "store-list",
                list_files,
                ["store-put"],
                "Give the store's user s3:ListBucket: the audit of files needs it.",
            ),
            Check("store-delete", delete, ["store-put"], "Give the store's user s3:DeleteObject: upkeep needs it."),
        ],
        ends=remove,
    )
