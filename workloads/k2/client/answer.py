"""An answer of rows: read batch by batch while it comes, or whole, as Arrow, polars or pandas."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

from k2.client.shape import Shape
from k2.model.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


class TruncatedWarning(UserWarning):
    """There were more rows than the limit that nobody chose."""


class Answer:
    """Rows that match a question, oldest first.

    Iterate over it for `pyarrow.RecordBatch`es as they come, in memory that does not grow with their number, or take all of
    them: `arrow()`, `pl()`, `df()`. Prices and quantities are decimals, or floats where these were asked for (`shape`); times are UTC
    with microseconds.

    Args:
        schema: of every batch.
        batches: the rows; closing it, where it can be closed, ends the reading.
        envelope: what is known before the rows are read.
        ending: what is known once they are.
        close: called once, when all is read or nothing more is wanted.
        warn: say so when rows were left out: nobody asked for a limit.
    """

    def __init__(
        self,
        schema: pa.Schema,
        batches: Iterator[pa.RecordBatch],
        envelope: dict[str, Any],
        ending: Callable[[], dict[str, Any]] = dict,
        *,
        close: Callable[[], None] | None = None,
        warn: bool = False,
    ) -> None:
        self.schema = schema
        self.warn = warn
        self._shape = Shape()
        self._batches = batches
        self._envelope = envelope
        self._ending = ending
        self._close = close
        self._begun = False
        self._over = False
        self._table: pa.Table | None = None

    def shaped(self, shape: Shape) -> Self:
        """The same answer, its rows in that shape; before any of them is read."""
        self._shape = shape
        self.schema = shape.schema(self.schema)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        columns = ", ".join(self.schema.names)
        if self._table is not None:
            return f"<{self._table.num_rows:,} rows: {columns}>"
        return f"<rows that are not read yet: {columns}; .arrow(), .pl(), .df(), or iterate for batches>"

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """The rows, in batches. Once: what is to be gone through again is to be kept (`arrow()` keeps it)."""
        if self._table is not None:
            yield from self._table.to_batches()
            return
        if self._begun:
            raise UserError("The rows of this answer were read already", remedy="Ask again, or keep answer.arrow()")
        self._begun = True
        told, rows = self._shape.told(), 0
        try:
            for batch in self._batches:
                if batch.num_rows:
                    rows += batch.num_rows
                    told(rows)
                    yield self._shape.batch(batch)
            told(None)
            found = self._envelope | self._ending()
            self._envelope = {name: found[name] for name in ("count", "more") if name in found} | found
            self._over = True
        finally:
            self.close()
        if self.warn and self._envelope.get("more"):
            warnings.warn(
                f"There are more rows than the {self._envelope['count']:,} that one answer holds: give a limit, or ask "
                "for a shorter time range",
                TruncatedWarning,
                stacklevel=3,
            )

    def arrow(self) -> pa.Table:
        """All rows."""
        if self._table is None:
            import pyarrow as pa

            self._table = pa.Table.from_batches(list(self), self.schema)
        return self._table

    def pl(self) -> pl.DataFrame:
        """All rows as polars has them."""
        try:
            import polars as pl
        except ImportError as error:
            raise _missing("polars") from error
        found = pl.from_arrow(self.arrow())
        assert isinstance(found, pl.DataFrame)
        return found

    def df(self) -> pd.DataFrame:
        """All rows as pandas has them.

        Its decimals are Python's, exact and slow; what is to be computed with is asked for with `price_type="float"`.

        Raises:
            UserError: pandas is not installed, or times are to be the index and there are none.
        """
        if importlib.util.find_spec("pandas") is None:
            raise _missing("pandas")
        return self._shape.frame(self.arrow())

    def rows(self) -> Iterator[dict[str, Any]]:
        """Row by row, as dicts by column: for a loop, not for many."""
        for batch in self:
            yield from batch.to_pylist()

    @property
    def envelope(self) -> dict[str, Any]:
        """What the service says beside the rows; `count` and `more` are there once all are read."""
        return self._envelope

    @property
    def more(self) -> bool:
        """Whether the limit left rows out. Reads the rows."""
        if not self._over and self._table is None:
            self.arrow()
        return bool(self._envelope.get("more"))

    @property
    def snapshot_id(self) -> str | None:
        """The snapshot that the rows are from; ask again with it for the same rows."""
        return self._envelope.get("snapshot_id")

    @property
    def complete_until(self) -> str | None:
        """Time of the newest event in the snapshot and the tail, ISO 8601."""
        return self._envelope.get("complete_until")

    @property
    def note(self) -> str | None:
        """Why there are no rows."""
        return self._envelope.get("note")

    def close(self) -> None:
        """Read no more. What was kept by `arrow()` stays."""
        batches, self._batches = self._batches, iter(())
        closing = getattr(batches, "close", None)
        if closing is not None:
            closing()
        close, self._close = self._close, None
        if close is not None:
            close()


def _missing(package: str) -> UserError:
    return UserError(f"{package} is not installed", remedy=f"pip install {package}, or take answer.arrow()")
