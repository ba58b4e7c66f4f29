"""Somebody's own SQL over the tables of a lake, in their own process: views at one moment, DuckDB's whole language, Arrow out.

Not for a service: DuckDB has no walls inside, so whoever writes SQL sees what the process sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from k2.model.errors import UserError
from k2.model.locations import is_remote, local_path
from k2.query.asked.sql_requests import SqlQuery
from k2.query.engine.own_database import OwnDatabase, SqlRows, Told, ViewText
from k2.query.engine.own_errors import Readable
from k2.query.measuring import measured
from k2.query.plan.planner import Planner
from k2.query.plan.provenance import Provenance
from k2.query.plan.views import View, all_named, mentioned, views_at
from k2.query.rows.view_sql import name_of, text_of


@dataclass(frozen=True, slots=True)
class SqlAnswer:
    """The rows, and by the name of each view what they were read from."""

    rows: SqlRows
    sources: Mapping[str, Provenance]


class OwnSql:
    """Answers SQL. Threads may share it.

    Args:
        planner: chooses snapshots and files; of one who may see everything.
        database: runs the statements.
    """

    def __init__(self, planner: Planner, database: OwnDatabase) -> None:
        self._planner = planner
        self._database = database

    def ask(self, query: SqlQuery, said: Told | None = None) -> SqlAnswer:
        """Run the statements over the tables that they name, all as they were at one moment.

        Raises:
            SqlError: the SQL is wrong.
            SnapshotGoneError: the snapshot, time or pin of a table that it reads is not retained.
            TooLargeError: it needs more memory than the limit.
            WorldError: the catalog or a file could not be read.
        """
        with measured("sql"):
            named = all_named(self._planner)
            if taken := sorted(named.keys() & query.frames.keys()):
                raise UserError("frames has the name of a table", found=", ".join(taken), expected="names of your own")
            wanted = mentioned(query.text, named)
            views, problems = views_at(self._planner, wanted, query.at, list(named.values()))
            roots = tuple(sorted({root for view in views for root in view.relation.roots}))
            known = Readable(
                {view.name: tuple(column.name for column in view.relation.columns) for view in views},
                (*named, *query.frames),
                problems,
                tuple({*roots, *map(local_path, roots)}),
                self._database.memory_limit,
            )
            texts = [_text(view) for view in views]
            rows = self._database.run(query, texts, known, any(map(is_remote, roots)), said)
        return SqlAnswer(rows, {view.name: view.pinned.provenance((view.relation,)) for view in views})

    def close(self) -> None:
        """Stop what runs."""
        self._database.close()


def _text(view: View) -> ViewText:
    tail = f"k2_tail_of_{view.name}"
    tails = {} if view.relation.tail is None else {tail: view.relation.tail}
    return ViewText(view.name, text_of(view.relation, name_of(tail)), tails)
