"""How prices are asked for that corporate actions do not break: adjusted for splits, or for dividends too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from k2.model.adjusted import Adjusted
from k2.model.topics import DataType
from k2.query.asked.requests import At


@dataclass(frozen=True, slots=True)
class Adjusting:
    """How an answer is adjusted.

    Attributes:
        to: splits and mergers, or dividends too.
        until_us: what comes later has not happened yet; None: as of when the question is asked.
        tables: which reference data, and which trades for the closes, give the factors; none: those of when the question is
            asked. What a first page had, its later pages have.
    """

    to: Adjusted
    until_us: int | None = None
    tables: tuple[tuple[DataType, At], ...] = field(default=())

    def at(self, data_type: DataType) -> At | None:
        """Which rows of that kind give the factors; None: it was not decided yet."""
        return dict(self.tables).get(data_type)

    def to_list(self) -> list[Any]:
        """Plain values, for a token."""
        held = [[data_type.value, at.tables, at.ends] for data_type, at in self.tables]
        return [self.to.value, self.until_us, held]

    @classmethod
    def from_list(cls, held: Sequence[Any]) -> Self:
        """The inverse of `to_list`."""
        to, until_us, tables = held
        return cls(
            Adjusted(to),
            until_us,
            tuple(
                (
                    DataType(data_type),
                    At(
                        ends=tuple((topic_id, partition, end) for topic_id, partition, end in ends),
                        tables=tuple((table, snapshot) for table, snapshot in snapshots),
                    ),
                )
                for data_type, snapshots, ends in tables
            ),
        )
