"""What can be asked, of a running service and of a catalog alike.

Parameters have their names of the API, rows are Arrow, everything else the JSON objects of the API (`forms/bodies.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import pyarrow as pa

    from k2.client.answer import Answer
    from k2.model.topics import DataType

Params = Mapping[str, Any]
"""Parameters by their names in the API: texts, numbers, and lists of texts; None is absent."""


def one_by_one(params: Params) -> Params:
    """The parameters with listed symbols each for itself (`symbol`): a symbol may have a comma, at which `symbols` is split."""
    symbols = params.get("symbols")
    if symbols is None or isinstance(symbols, str):
        return params
    one = params.get("symbol")
    first: list[str] = [] if one is None else [one] if isinstance(one, str) else list(one)
    return {**params, "symbol": [*first, *symbols] or None, "symbols": None}


@dataclass(frozen=True, slots=True)
class SqlAsking:
    """What belongs to a query in SQL and is no parameter of the API.

    Attributes:
        values: of its `?`, or by the names of its `$name`.
        frames: what else it may read, by name: Arrow tables, data frames of pandas or polars.
        limit: most rows; None: all.
        told: is called with how many percent are done, while one waits.
    """

    values: Sequence[Any] | Mapping[str, Any] = ()
    frames: Mapping[str, Any] = field(default_factory=dict[str, Any])
    limit: int | None = None
    told: Callable[[float], None] | None = None


class Playback(Protocol):
    """A replay under way: iterate over its batches, each given when it is due. Any thread may give it commands.

    Each batch has `type` ("quote" or "trade") and the columns of both tables, null where an event has none.
    """

    @property
    def cursor(self) -> str:
        """Where another replay goes on after the last batch that was taken."""
        ...

    def __iter__(self) -> Iterator[pa.RecordBatch]: ...
    def __next__(self) -> pa.RecordBatch: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def pause(self) -> None:
        """Give nothing until `resume`."""
        ...

    def resume(self) -> None:
        """Go on; the time of the pause does not count."""
        ...

    def seek(self, time: str) -> None:
        """Go on from another time, in the same snapshots."""
        ...

    def change_pace(self, *, speed: float | None = None, rate: float | None = None) -> None:
        """Go on at so many times the events' own pace, or so many events a second; neither: as fast as can be."""
        ...

    def close(self) -> None:
        """Stop reading."""
        ...


class Client(Protocol):
    """The questions. Each raises `UserError` for what the asker can mend, and `WorldError` for what they cannot."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def events(self, data_type: DataType, params: Params) -> Answer:
        """Trades or quotes, oldest first; without a symbol: of all."""
        ...

    def diff(self, params: Params) -> Answer:
        """What a table got between two snapshots."""
        ...

    def bars(self, symbols: tuple[str, ...], params: Params) -> Answer:
        """OHLCV, VWAP and TWAP of each bucket of time."""
        ...

    def asof(self, params: Params) -> Answer:
        """Trades with the quotes that prevailed."""
        ...

    def last(self, params: Params) -> Answer:
        """The newest trade and quote of each symbol."""
        ...

    def summary(self, symbol: str, date: str, params: Params) -> dict[str, Any]:
        """OHLCV and VWAP of a trading date."""
        ...

    def reference(self, params: Params) -> Answer:
        """What is known of companies: their symbols by date, dividends, splits and mergers."""
        ...

    def sql(self, query: str, params: Params, asking: SqlAsking) -> Answer:
        """The rows of a query in the asker's own SQL; a service refuses it."""
        ...

    def symbols(self, params: Params) -> dict[str, Any]:
        """Every symbol of a table."""
        ...

    def calendar(self, exchange: str, params: Params) -> dict[str, Any]:
        """Trading dates of an exchange."""
        ...

    def stats(self, params: Params) -> dict[str, Any]:
        """Size and reach of the tables."""
        ...

    def snapshots(self, params: Params) -> dict[str, Any]:
        """Retained snapshots of a table."""
        ...

    def audit(self, params: Params) -> dict[str, Any]:
        """Whether every offset that a table records is in it once."""
        ...

    def make_pin(self, body: Params) -> dict[str, Any]:
        """Fix the snapshots of several tables."""
        ...

    def pins(self) -> dict[str, Any]:
        """Pins that have not lapsed."""
        ...

    def delete_pin(self, pin: str) -> None:
        """Let go of a pin."""
        ...

    def replay(self, asked: Params) -> Playback:
        """Quotes and trades in one order of events; `asked` as in the first message of /v1/stream."""
        ...
