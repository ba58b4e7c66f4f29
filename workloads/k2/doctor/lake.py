"""Catalog and store: whether they answer, and with leave to write whether they take a commit, a file, a listing, a deletion."""

from __future__ import annotations

from collections.abc import Mapping

from k2.doctor.checks import Check, Group, SkippedError, WrongError
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

_REFUSALS = ("password", "401", "403", "unauthorized", "forbidden", "access denied", "not authorized")


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
    """Checks of the tables that are there: whether their metadata can be read."""

    def readable() -> str:
        there = recorded(settings)
        if not there:
            raise SkippedError("there are no tables yet")
        return f"{', '.join(there)} can be read"

    return Group(
        "Tables",
        [
            Check(
                "tables-readable",
                readable,
                REACHED,
                "Look at the warehouse, and at s3.* among the catalog's properties and in its Secret; what is lost is named by "
                "`k2 audit --deep`.",
            )
        ],
    )


def recorded(settings: Settings) -> dict[str, Mapping[str, TopicOffsets]]:
    """Of each table that is there: what it holds of each topic.

    Raises:
        WrongError: some cannot be read; each is named.
    """
    found: dict[str, Mapping[str, TopicOffsets]] = {}
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
            found[name] = recorded_offsets(table).topics
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
