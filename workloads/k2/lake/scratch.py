"""A table that is there to be tried: made, committed to, a file written beside it, and all of it removed.

What a catalog or a store refuses comes out as it is: what its driver says is the finding.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NamespaceNotEmptyError, NoSuchNamespaceError, NoSuchTableError
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import LongType, NestedField

from k2.lake.catalog import open_catalog
from k2.lake.proof.files_audit import compare_sizes
from k2.model.errors import WorldError
from k2.model.settings import Settings

NAMESPACE = "k2_doctor"
_BYTES = b"k2 doctor"


@dataclass(frozen=True, slots=True)
class Scratch:
    """One table of its own name. The catalog is opened anew for each step: it belongs to the thread that opened it.

    Args:
        settings: of the catalog.
        answer_seconds: how long each of its calls may wait.
        identifier: the table's name, which nobody else has.
    """

    settings: Settings
    answer_seconds: float
    identifier: str = field(default_factory=lambda: f"{NAMESPACE}.scratch_{uuid.uuid4().hex[:12]}")

    def commit(self) -> None:
        """Make a table of one column, and change it by a commit of its own."""
        with self._catalog() as catalog:
            catalog.create_namespace_if_not_exists(NAMESPACE)
            table = catalog.create_table(self.identifier, Schema(NestedField(1, "number", LongType())))
            with table.transaction() as transaction:
                transaction.set_properties({"tried": "true"})
            if catalog.load_table(self.identifier).properties.get("tried") != "true":
                raise WorldError("A commit was taken, and the table does not show it")

    def write(self) -> str:
        """Write a file and read it again; returns where it is."""
        with self._table() as table:
            place = _place(table)
            with table.io.new_output(place).create(overwrite=True) as file:
                file.write(_BYTES)
            with table.io.new_input(place).open() as file:
                if (back := file.read()) != _BYTES:
                    raise WorldError(f"What was written to {place} came back as {back!r}")
            return place

    def list_files(self) -> None:
        """Look for the file by a listing."""
        with self._table() as table:
            if not (found := compare_sizes(table, {_place(table): len(_BYTES)})).ok:
                raise WorldError(f"A listing says of the file that was just written: {found.findings[0].problem}")

    def delete(self) -> None:
        """Delete the file, and see that it is gone."""
        with self._table() as table:
            table.io.delete(_place(table))
            if table.io.new_input(_place(table)).exists():
                raise WorldError(f"{_place(table)} is still there after its deletion")

    def remove(self) -> None:
        """Remove the table with its files, and the namespace once no other table is in it."""
        with self._catalog() as catalog:
            try:
                catalog.purge_table(self.identifier)
                catalog.drop_namespace(NAMESPACE)
            except (NoSuchTableError, NoSuchNamespaceError, NamespaceNotEmptyError):
                return

    @contextmanager
    def _catalog(self) -> Generator[Catalog]:
        with open_catalog(self.settings, self.answer_seconds) as catalog:
            yield catalog

    @contextmanager
    def _table(self) -> Generator[Table]:
        with self._catalog() as catalog:
            yield catalog.load_table(self.identifier)


def _place(table: Table) -> str:
    return f"{table.location().rstrip('/')}/data/probe"
