"""What is known of companies at a snapshot: of each thing that reference data tells, the record that was taken in last.

A table of reference data only grows; a correction is a later record of the same thing. What makes two records tell one
thing is in docs/queries.md. All of it is decided in one statement, over files and tail alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa

from k2.query.asked.reference_requests import ReferenceQuery
from k2.query.asked.requests import Window
from k2.query.plan.pinned import Pinned
from k2.query.plan.planner import Planner
from k2.query.plan.provenance import Provenance
from k2.query.rows import sql
from k2.query.rows.relation import Relation
from k2.query.rows.schema import arrow_schema
from k2.query.rows.statement import RowSource, Statement

SUPERSEDED = "superseded"
"""The column of a history that says whether a newer record took the place of this one."""

_TIME = "effective_timestamp"
# Two records with the same of all these tell one thing. A company's is a stretch of a symbol; a source that pays several
# dividends on one date says in vendor_data of which type each is.
_THING = (
    "exchange, company_id, kind, CASE kind WHEN 'company' THEN symbol END, "
    f"ex_date, CASE WHEN ex_date IS NULL THEN {_TIME} END, "
    "CASE kind WHEN 'dividend' THEN declared_date END, vendor_data['type']"
)
# The date of a midnight, wherever between the zones of -12 and +12 hours that is.
_SINCE = f"coalesce(listing_date, make_timestamp(epoch_us({_TIME}) + 43200000000)::DATE)"
_NEWEST = "ingestion_timestamp DESC"
_LAST_READ = "kafka_topic_id DESC, kafka_partition DESC, kafka_offset DESC"


@dataclass(frozen=True, slots=True)
class Reference:
    """Records by exchange, company, the time from which they hold, and kind.

    Attributes:
        rows: the columns of the table; of a history also `superseded`.
        more: the limit cut off others.
        provenance: what they were read from.
        note: why there are none.
    """

    rows: pa.Table
    more: bool
    provenance: Provenance
    note: str | None = None


def reference_of(engine: RowSource, planner: Planner, pinned: Pinned, query: ReferenceQuery) -> Reference:
    """Answer the question from the reference data at a snapshot; raises as `RowSource.fetch` does."""
    relation = planner.plan(pinned, (), query.exchange, Window())
    provenance = pinned.provenance((relation,))
    if not relation:
        return Reference(schema_of(relation, query).empty_table(), False, provenance, _nothing(pinned, query))
    rows = engine.fetch("reference", statement(relation, query, pinned.clipped(query.at)))
    rows = rows.cast(schema_of(relation, query))
    note = None if rows.num_rows else _nothing(pinned, query)
    return Reference(rows.slice(0, query.limit), rows.num_rows > query.limit, provenance, note)


def schema_of(relation: Relation, query: ReferenceQuery) -> pa.Schema:
    """Of the answer."""
    schema = arrow_schema(relation.columns)
    return schema.append(pa.field(SUPERSEDED, pa.bool_())) if query.history else schema


def statement(relation: Relation, query: ReferenceQuery, before: Sequence[tuple[str, int, int]] = ()) -> Statement:
    """The records that are asked for, at most one more than the limit; `before`: no row from these offsets on."""
    condition, params = sql.where(relation, sql.Filter(exchange=query.exchange, before=tuple(before)))
    names = [name for name in schema_of(relation, query).names if name != SUPERSEDED]
    columns = ", ".join(f'"{name}"' if name != "symbol" else _SYMBOL for name in names)
    if query.history:
        columns += f", k2_age > 1 AS {SUPERSEDED}"
    clauses = [] if query.history else ["k2_age = 1"]
    clauses += _of_companies(query, params)
    if query.kinds:
        clauses.append(f"kind IN ({_bound('kind', query.kinds, params)})")
    if query.day is not None:
        stretches = f"SELECT (exchange, company_id, symbol, {_TIME}) FROM k2_companies WHERE {_holds_on(query.day)}"
        clauses.append(f"(kind <> 'company' OR (exchange, company_id, symbol, {_TIME}) IN ({stretches}))")
    # Two dividends of one date that came in at once stand side by side; of any other thing there is one record.
    text = f"""
        WITH k2_known AS (
            SELECT *, CASE kind
                WHEN 'dividend' THEN rank() OVER (PARTITION BY {_THING} ORDER BY {_NEWEST})
                ELSE row_number() OVER (PARTITION BY {_THING} ORDER BY {_NEWEST}, {_LAST_READ}) END AS k2_age
            FROM (SELECT * FROM {sql.source(relation)}{condition})),
        k2_companies AS (
            SELECT exchange, company_id, symbol, {_TIME}, {_SINCE} AS k2_since, delisting_date,
                lead({_SINCE}) OVER (PARTITION BY exchange, company_id ORDER BY {_SINCE}, symbol) AS k2_next
            FROM k2_known WHERE kind = 'company' AND k2_age = 1 AND symbol IS NOT NULL),
        k2_first AS (
            SELECT exchange, company_id, arg_min(symbol, {_TIME}) AS k2_symbol FROM k2_companies GROUP BY ALL)
        SELECT {columns} FROM (
            SELECT k.*, c.symbol AS k2_symbol_then, f.k2_symbol
            FROM k2_known k ASOF LEFT JOIN k2_companies c
                ON k.exchange = c.exchange AND k.company_id = c.company_id AND k.{_TIME} >= c.{_TIME}
            LEFT JOIN k2_first f ON k.exchange = f.exchange AND k.company_id = f.company_id)
        {f"WHERE {' AND '.join(clauses)}" if clauses else ""}
        ORDER BY exchange, company_id, {_TIME}, kind, ingestion_timestamp, {", ".join(sql.LINEAGE)}
        LIMIT {query.limit + 1}"""
    return sql.statement(text, params, relation)


# Where the source gives only the company's id: its symbol at that time, else its first one.
_SYMBOL = "coalesce(symbol, k2_symbol_then, k2_symbol) AS symbol"


def _of_companies(query: ReferenceQuery, params: dict[str, Any]) -> list[str]:
    """The condition on whose records they are."""
    ways: list[str] = []
    if query.companies:
        ways.append(f"company_id IN ({_bound('company', query.companies, params)})")
    if query.symbols:
        listed = _bound("asked", query.symbols, params)
        day = "" if query.day is None else f" AND {_holds_on(query.day)}"
        ways.append(
            "(exchange, company_id) IN "
            f"(SELECT (exchange, company_id) FROM k2_companies WHERE symbol IN ({listed}){day})"
        )
        # Of a company that no record tells of its own rows say the symbol.
        ways.append(
            f"(symbol IN ({listed}) AND (exchange, company_id) NOT IN (SELECT (exchange, company_id) FROM k2_companies))"
        )
    return [f"({' OR '.join(ways)})"] if ways else []


def _holds_on(day: date) -> str:
    """The condition that a stretch of a symbol holds on the day: until its last date, or until the company's next stretch."""
    literal = f"DATE '{day.isoformat()}'"
    return f"k2_since <= {literal} AND coalesce(delisting_date >= {literal}, k2_next IS NULL OR k2_next > {literal})"


def _bound(name: str, values: Sequence[str], params: dict[str, Any]) -> str:
    names = [f"{name}_{number}" for number in range(len(values))]
    params.update(zip(names, values, strict=True))
    return ", ".join(f"${each}" for each in names)


def _nothing(pinned: Pinned, query: ReferenceQuery) -> str:
    if not pinned.has_data:
        return f"{pinned.named} has no data yet: load it with `k2 load reference-data`"
    whom = ", ".join((*query.symbols, *query.companies))
    return "No record matches" + (f": {pinned.named} knows nothing such of {whom}" if whom else "")
