"""A relation as the text of a view: whole in itself, for a view has no bound values. For those who may see everything. Pure."""

from __future__ import annotations

import re

from k2.query.rows import sql
from k2.query.rows.relation import Relation
from k2.query.rows.statement import TAIL

# What is in quotes is skipped: a column may be called "$files".
_BOUND = re.compile(r"""("(?:[^"]|"")*"|'(?:[^']|'')*')|\$([a-z0-9_]+)""")


def text_of(relation: Relation, tail: str) -> str:
    """SQL that gives all rows of the relation, with all its columns in their order.

    Args:
        relation: what is read.
        tail: the name under which the text finds the relation's tail.
    """
    columns = {c.name: kind for c in relation.columns if (kind := sql.duck_type(c)) is not None}
    if not relation:
        nothing = ", ".join(f"NULL::{kind} AS {name_of(name)}" for name, kind in columns.items())
        return f"SELECT {nothing} WHERE false"
    made = sql.statement(f"SELECT {', '.join(map(name_of, columns))} FROM {sql.source(relation)}", {}, relation)

    def written(found: re.Match[str]) -> str:
        return found[1] or literal(str(made.params[found[2]]))

    return _BOUND.sub(written, made.sql.replace(f"FROM {TAIL})", f"FROM {tail})"))


def name_of(name: str) -> str:
    """A name in quotes."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text in quotes."""
    return "'" + text.replace("'", "''") + "'"
