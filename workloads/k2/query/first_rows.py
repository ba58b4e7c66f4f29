"""The first rows of a question in the total order, reading as few files as will do."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from k2.query import replay, sql
from k2.query.engine import Engine
from k2.query.relation import Relation
from k2.query.results import arrow_schema, has_ties


def first_rows(
    engine: Engine, label: str, relation: Relation, which: sql.Filter, limit: int, *, one_series: bool = False
) -> pa.Table:
    """At most `limit` rows of the relation's files, read from the oldest stretch of files on, until there are enough.

    `one_series`: all that match are of one symbol of one exchange. Then time and the source's order decide, unless rows tie.
    """
    schema = arrow_schema(relation.columns)
    parts = [schema.empty_table()]
    by = sql.SHORT_ORDER if one_series else sql.ORDER
    for stretch in replay.stretches(relation.files):
        rows = _read(engine, label, relation.of(stretch), which, limit, by)
        parts.append(rows.cast(schema))
        limit -= rows.num_rows
        if limit <= 0:
            break
    return pa.concat_tables(parts)


def _read(engine: Engine, label: str, stretch: Relation, which: sql.Filter, limit: int, by: Sequence[str]) -> pa.Table:
    rows = engine.fetch(label, sql.events(stretch, which, limit=limit, by=by))
    if by is sql.SHORT_ORDER and has_ties(rows):
        return engine.fetch(label, sql.events(stretch, which, limit=limit, by=sql.ORDER))
    return rows
