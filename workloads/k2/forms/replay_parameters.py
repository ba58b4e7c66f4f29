"""What a replay can be asked for, by POST or over a WebSocket."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictInt

from k2.forms.formats import Format
from k2.forms.parameters import TIME, AdjustedParams, Params, WindowBody, as_text
from k2.forms.print_parameters import PRINT_PARAMETERS, PrintParams
from k2.model.errors import UserError
from k2.model.topics import DataType
from k2.query.asked.cursor import Cursor, ReplayQuery
from k2.query.asked.pace import Pace
from k2.query.asked.requests import MOST_SYMBOLS, At, check_symbol, exchange_code
from k2.query.events.replay import Replay
from k2.query.questions import Questions

MOST_ROWS = 100_000
MOST_FRAME_ROWS = 65_536


class ReplayAsked(WindowBody, PrintParams, AdjustedParams):
    """Which events, from where: what the page and the stream of a replay share. Filters are of its trades."""

    tables: list[DataType] = Field(
        default_factory=lambda: [DataType.QUOTES, DataType.TRADES],
        min_length=1,
        max_length=2,
        description="quotes, trades, or both in one order.",
        examples=[["quotes", "trades"]],
    )
    symbols: list[str] = Field(
        default_factory=list, max_length=MOST_SYMBOLS, description="Any of these; none: all.", examples=[["BHP"]]
    )
    exchange: str | None = Field(default=None, description="Only this exchange.", examples=["ASX"])
    snapshots: dict[DataType, str] = Field(
        default_factory=dict, description="Snapshots by table, where they are not the current ones."
    )
    as_of: str | StrictInt | None = Field(default=None, description=f"As was known at this time. {TIME}")
    pin: str | None = Field(default=None, description="From the snapshots that this pin fixes.")
    hybrid: bool | None = Field(default=None, description="Whether with what the topics hold beyond the tables.")
    cursor: str | None = Field(
        default=None, description="Goes on where a replay stood; says all of the above but the form."
    )

    def replay(self, questions: Questions, *, follow: bool = False) -> Replay:
        """The replay that is asked for; raises as `Replay.begin` does, and `UserError`."""
        if self.cursor is not None:
            given = sorted(self.model_fields_set & _FIXED)
            if given:
                raise UserError(
                    "A cursor is given with what it says itself", found=", ".join(given), expected="the cursor alone"
                )
            return questions.replay_from(Cursor.decode(self.cursor))
        as_of = as_text(self.as_of)
        strangers = sorted(self.snapshots.keys() - set(self.tables))
        if strangers:
            raise UserError("snapshots is of other tables", found=", ".join(strangers), expected=", ".join(self.tables))
        at = {each: At.parse(self.snapshots.get(each), as_of, self.pin, self.hybrid, self.zone) for each in self.tables}
        if follow and (self.end is not None or self.date is not None or any(each.is_past for each in at.values())):
            raise UserError(
                "follow goes on with what comes in", found="snapshots, as_of, pin, date or end", expected="none of them"
            )
        symbols = tuple(dict.fromkeys(check_symbol(symbol) for symbol in self.symbols))
        exchange = exchange_code(self.exchange)
        query = ReplayQuery(
            tuple(dict.fromkeys(self.tables)),
            symbols,
            exchange,
            questions.window_of(at, symbols, exchange, self.period, self.session),
            at,
            follow,
            self.prints_of(self.session, exchange, self.tables),
            self.adjusting,
        )
        return questions.replay_merged(query)


_WHEN = {"start", "end", "date", "last_date", "session", "tz"}
_FIXED = (
    _WHEN
    | set(PRINT_PARAMETERS)
    | {"tables", "symbols", "exchange", "snapshots", "as_of", "pin", "hybrid", "follow", "adjusted"}
)


class ReplayBody(ReplayAsked):
    """Body of POST /v1/replay."""

    limit: int = Field(default=10_000, ge=1, le=MOST_ROWS, description="Most rows of the page.", examples=[100])
    format: Format | None = Field(default=None, description="Instead of the Accept header.", examples=["json"])


class PaceAsked(Params):
    """How fast."""

    speed: float | None = Field(default=None, description="Times the events' own pace (2: twice as fast).")
    rate: float | None = Field(default=None, description="Rows a second.")

    @property
    def pace(self) -> Pace:
        """The pace; neither is as fast as can be."""
        return Pace(self.speed, self.rate)


class StreamStart(ReplayAsked, PaceAsked):
    """First message of a client of /v1/stream, once it is known."""

    type: Literal["start"] = "start"
    follow: bool = Field(default=False, description="Go on with what comes in when history is at its end.")
    format: Literal["json", "arrow"] = Field(default="json", description="Frames of JSON text or Arrow IPC streams.")
    batch_rows: int | None = Field(default=None, ge=1, le=MOST_FRAME_ROWS, description="Most rows of a frame.")


class StreamCommand(PaceAsked):
    """What a client says later."""

    type: Literal["pause", "resume", "seek", "speed", "stop"] = Field(description="What to do.")
    time: str | StrictInt | None = Field(default=None, description=f"With seek: where to. {TIME}")
