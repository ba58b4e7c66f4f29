"""The first rows of a question in the total order, reading as few files as will do."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from k2.query import replay, sql
from k2.query.engine import Engine
from k2.query.relation import Relation
from k2.query.results import arrow_schema, has_ties


def first_rows(
    engine: Engine,
    label: str,
    relation: Relation,
    which: sql.Filter,
    limit: int,
    *,
    one_series: bool = False,
    fields: Sequence[str] = (),
) -> pa.Table:
    """At most `limit` rows of the relation, read from its oldest stretch on, until there are enough.

    `one_series`: all that match are of one symbol of one exchange. Then time and the source's order decide, unless rows tie.
    Beside the `fields` (none: all) the rows have the columns that decide: of one series these two, else those of the order.
    """
    by = sql.SHORT_ORDER if one_series else sql.ORDER
    names = tuple(dict.fromkeys((*fields, *sql.order_of(relation, by)))) if fields else ()
    schema = arrow_schema(relation.columns, lineage=not one_series, names=names)
    parts = [schema.empty_table()]
    for stretch in replay.with_tail(relation, replay.stretches(relation.files)):
        rows = _read(engine, label, stretch, which, limit, by, names)
        parts.append(rows.cast(schema))
        limit -= rows.num_rows
        if limit <= 0:
            break
    return pa.concat_tables(parts)


def _read(
    engine: Engine,
    label: str,
    stretch: Relation,
    which: sql.Filter,
    limit: int,
    by: Sequence[str],
    names: Sequence[str],
) -> pa.Table:
    lineage = by is sql.ORDER
    rows = engine.fetch(label, sql.events(stretch, which, limit=limit, lineage=lineage, by=by, fields=names))
    if by is sql.SHORT_ORDER and has_ties(rows):
        return engine.fetch(label, sql.events(stretch, which, limit=limit, by=sql.ORDER, fields=names))
    return rows
