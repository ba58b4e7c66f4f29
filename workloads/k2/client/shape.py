"""The shape in which an answer's rows are wanted: exact prices or floats, times as index, and word of how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from k2.model.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

PriceType = Literal["decimal", "float"]
Index = Literal["none", "time"]
Progress = bool | Callable[[int], None]
"""True: a line on stderr; a function: called with the number of rows that have come, batch by batch."""

_TIMES = ("timestamp", "start", "date")
_BETWEEN_SECONDS = 0.2
# Both parts of a division by a power of ten are exact doubles up to these, so the quotient is the nearest double.
_EXACT_UNITS, _EXACT_PLACES = 2**53, 22


class Shaped(TypedDict, total=False):
    """What every method that gives rows takes beside its question; without it, as the connection was made.

    Attributes:
        price_type: "decimal": exact; "float": prices and quantities as the nearest float64, which numpy and pandas compute with.
        index: "time": the time of each row is the index of `df()`.
        progress: how far a long answer is.
    """

    price_type: PriceType
    index: Index
    progress: Progress


@dataclass(frozen=True, slots=True)
class Shape:
    """See `Shaped`."""

    price_type: PriceType = "decimal"
    index: Index = "none"
    progress: Progress = False

    def __post_init__(self) -> None:
        for name, value, known in (
            ("price_type", self.price_type, ("decimal", "float")),
            ("index", self.index, ("none", "time")),
        ):
            if value not in known:
                raise UserError(f"{name} cannot be used", found=value, expected=" or ".join(known))

    def over(self, said: Shaped) -> Shape:
        """This one, where the question does not say another."""
        try:
            return replace(self, **said)
        except TypeError:
            unknown = sorted(set(said) - Shaped.__annotations__.keys())
            raise TypeError(f"unexpected keyword arguments: {', '.join(unknown)}") from None

    def schema(self, exact: pa.Schema) -> pa.Schema:
        """Of the rows in this shape."""
        import pyarrow as pa

        if self.price_type == "decimal":
            return exact
        fields = [field.with_type(pa.float64()) if pa.types.is_decimal(field.type) else field for field in exact]
        return pa.schema(fields, exact.metadata)

    def batch(self, exact: pa.RecordBatch) -> pa.RecordBatch:
        """The rows in this shape."""
        import pyarrow as pa

        if self.price_type == "decimal":
            return exact
        columns = [floats(column) if pa.types.is_decimal(column.type) else column for column in exact.columns]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema(exact.schema))

    def frame(self, rows: pa.Table) -> pd.DataFrame:
        """The rows (in this shape) as pandas has them.

        Raises:
            UserError: times are to be the index, and the rows have none.
        """
        import pandas as pd

        found = rows.to_pandas()
        if self.index == "none":
            return found
        name = next((name for name in _TIMES if name in rows.schema.names), None)
        if name is None:
            raise UserError(
                "The rows have no time to be the index",
                found=", ".join(rows.schema.names),
                expected="timestamp or start among the fields",
            )
        if name == "date":
            found[name] = pd.to_datetime(found[name])
        return found.set_index(name)

    def told(self) -> Callable[[int | None], None]:
        """What is called with the rows so far, and with None at the end."""
        if self.progress is False:
            return _nothing
        if self.progress is True:
            return _Line()
        told = self.progress
        return lambda rows: None if rows is None else told(rows)

    def percent(self) -> Callable[[float], None] | None:
        """What is called with how much of an answer is made, before its first row comes; None: nobody wants to know."""
        return _percent if self.progress is True else None


def floats(column: pa.Array) -> pa.Array:
    """Decimals as the nearest float64 each; null where they are.

    Not by Arrow's cast, which multiplies by a power of ten that no double is: 0.1 must be Python's 0.1.
    """
    import numpy as np
    import pyarrow as pa

    scale = column.type.scale
    is_there = column.is_valid().to_numpy(zero_copy_only=False)
    if not pa.types.is_decimal128(column.type) or not 0 <= scale <= _EXACT_PLACES:
        return pa.array([_float(value) for value in column.to_pylist()], pa.float64())
    words: Any = np.frombuffer(column.buffers()[1] or b"", dtype=np.int64)
    low, high = words[2 * column.offset : 2 * (column.offset + len(column))].reshape(-1, 2).T
    # Under a null the buffer may hold anything.
    is_exact = (high == low >> 63) & (low >= -_EXACT_UNITS) & (low <= _EXACT_UNITS) | ~is_there
    found = np.where(is_there, low, 0) / 10.0**scale
    for row in np.flatnonzero(~is_exact):
        found[row] = _float(column[int(row)].as_py())
    return pa.array(found, pa.float64(), mask=~is_there)


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def _percent(done: float) -> None:
    sys.stderr.write(f"\r{done:.0f} % ")
    sys.stderr.flush()


def _nothing(rows: int | None) -> None:
    del rows


class _Line:
    """A line on stderr with the rows so far, written over at most five times a second, and ended at the end."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._said_at = 0.0
        self._rows = 0

    def __call__(self, rows: int | None) -> None:
        now = time.monotonic()
        self._rows = self._rows if rows is None else rows
        if rows is not None and now - self._said_at < _BETWEEN_SECONDS:
            return
        self._said_at = now
        seconds = max(now - self._started, 1e-9)
        text = f"\r{self._rows:,} rows in {seconds:.1f} s ({self._rows / seconds:,.0f} a second)"
        sys.stderr.write(text + ("\n" if rows is None else ""))
        sys.stderr.flush()
