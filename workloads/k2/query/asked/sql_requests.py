"""A question in somebody's own SQL, as a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from k2.model.errors import UserError
from k2.query.asked.requests import CURRENT, At

Values = Sequence[Any] | Mapping[str, Any]
"""Values of the text's `?`, or by the names of its `$name`."""


@dataclass(frozen=True, slots=True)
class SqlQuery:
    """One or more statements of DuckDB's SQL; the last one's rows are the answer.

    Attributes:
        text: the statements.
        at: the snapshots that the tables are read at.
        values: of its parameters.
        frames: what else it may read, by name: Arrow tables, data frames.
    """

    text: str
    at: At = CURRENT
    values: Values = ()
    frames: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise UserError("There is no SQL in the query", expected="a statement, such as FROM trades LIMIT 10")
