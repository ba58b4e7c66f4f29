"""An exchange's market as one feed hears it: its listing, its lines, and what their messages say. All of it in one loop.

What is heard goes to `Handover` at once; nothing here waits for who takes it. When that is full, all lines are let go until half of it
is taken: what was missed then is a gap like any other, and memory is bounded.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pyarrow as pa

from k2.feeds.gaps.budget import SHARE, WeightBudget
from k2.feeds.gaps.kept import NOWHERE, AccountPlace, KeptAccount
from k2.feeds.live.handover import Handover
from k2.feeds.live.lines import Line
from k2.feeds.live.listing import Chosen, chosen
from k2.feeds.live.pace import EvenPace, RetryWaits, Timing
from k2.feeds.live.sockets import Socket
from k2.feeds.live.streams import Stream, StreamWatch
from k2.feeds.live.web import Address, RefusedPlaceError, Web
from k2.feeds.venues.columns import EventColumns
from k2.feeds.venues.venue import Frame, Heard, NoticeKind, Venue
from k2.model.compute import pc
from k2.model.errors import WorldError
from k2.model.events import Decimals
from k2.model.sources import SymbolSelection
from k2.model.topics import DataType
from k2.obs import metrics
from k2.obs.logging import get_logger

MOST_FRAMES = 4096
"""Messages that are read together; more of them are not faster."""
MOST_STREAMS = 200
"""Of a connection, whatever the venue allows: with one that ends, so many are unheard for a second."""
_FIRST_HEARD_SECONDS = 120.0
_MOST_NOTICES = 1_000
_EXCHANGE_SECONDS = 30.0
"""Between two exchanges of a connection for its streams' or subscriptions' sake."""

_log = get_logger(__name__)


class LiveMarket:
    """Hears a market until it is told to stop.

    Args:
        venue: the exchange.
        columns: what `venue` was made with; it is told the currencies.
        address: where the exchange is.
        symbols: what is heard: by name, or what the listing has.
        data_types: of each symbol.
        handover: where events go.
        timing: how long things take.
        place: where the account of what did not come is kept.

    Attributes:
        account: what is missing; touched in the loop alone.
    """

    def __init__(
        self,
        venue: Venue,
        columns: EventColumns,
        address: Address,
        symbols: Sequence[str] | SymbolSelection,
        data_types: Sequence[DataType],
        handover: Handover,
        timing: Timing,
        place: AccountPlace = NOWHERE,
    ) -> None:
        self.venue, self.columns, self.handover, self.timing = venue, columns, handover, timing
        self.data_types = [kind for kind in data_types if kind in venue.data_types]
        self.chosen: Chosen | None = None
        self.notices: Counter[tuple[NoticeKind, str]] = Counter()
        self._asked = symbols
        self._web = Web(address, timing.opening)
        self._numbers = itertools.count(1)
        limits = venue.limits
        self._pace = EvenPace(limits.connections_a_minute * SHARE / 60, at_once=limits.connections_at_once)
        self._frames: list[Frame] = []
        self._reading: asyncio.TimerHandle | None = None
        self._sockets: dict[int, tuple[Socket, Line]] = {}
        self._lines: dict[Line, asyncio.Task[None]] = {}
        self._watch = StreamWatch(timing.stream)
        self._symbols_seen: dict[DataType, list[pa.Array]] = {}
        self._exchanged: dict[Line, float] = {}
        self._trouble: WorldError | None = None
        self._is_held = False
        self._has_heard = False
        self._least_delay: int | None = None
        self._stop = asyncio.Event()
        self._budget = WeightBudget(limits.weight_a_minute)
        self.account = KeptAccount(
            venue,
            place,
            get=self._web.get,
            hand_over=handover.put,
            budget=self._budget,
            has_room=lambda: not handover.is_full,
        )

    def stop(self) -> None:
        """Let everything go; `run` returns. To be called in the loop."""
        self._stop.set()

    def ready(self) -> tuple[bool, str]:
        """Whether all lines have their connection, and what is wrong where they have not."""
        lines = list(self._lines)
        down = [line for line in lines if line.socket is None]
        troubles = [str(line.trouble) for line in down if line.trouble is not None]
        if self._is_held:
            return False, "Kafka is too slow: nothing is heard until what waits is sent"
        if not lines:
            return False, f"waiting for {self.venue.name}" + (f": {self._trouble}" if self._trouble else "")
        if down:
            said = f": {troubles[0]}" if troubles else ""
            return False, f"{len(down)} of {len(lines)} connections to {self.venue.name} are down{said}"
        return True, f"hearing {len(self.chosen.symbols) if self.chosen else 0} symbols of {self.venue.name}"

    async def run(self) -> None:
        """Hear until `stop`.

        Raises:
            UserError: symbols are not listed, or their prices do not fit the tables.
            WorldError: the exchange refuses the place since the begin.
        """
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._web)
            stack.push_async_callback(self._close)
            stopped = asyncio.create_task(self._stop.wait())
            following = asyncio.create_task(self._follow())
            looking = asyncio.create_task(self._look(began))
            keeping = asyncio.create_task(self.account.run())
            tasks: set[asyncio.Task[Any]] = {stopped, following, looking, keeping}
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _close(self) -> None:
        for task in self._lines.values():
            task.cancel()
        await asyncio.gather(*self._lines.values(), return_exceptions=True)
        self._read_frames()
        self.account.close()

    # --- what is listed -------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Ask for the listing, now and again, and hear what follows from it."""
        backoff = RetryWaits(self.timing.first_retry, self.timing.longest_retry)
        while True:
            request = self.venue.instruments()
            try:
                self._budget.spend(time.monotonic(), request.weight)
                listed = self.venue.parse_instruments(await self._web.get(request))
            except WorldError as error:
                self._trouble = error
                wait = max(backoff.failed(), getattr(error, "seconds", None) or 0.0)
                _log.warning("listing.failed", venue=self.venue.name, reason=str(error), seconds=round(wait, 2))
                await asyncio.sleep(wait)
                continue
            backoff.worked()
            self._trouble = None
            self.account.volumes.update({each.symbol: each.volume for each in listed if each.volume is not None})
            before = () if self.chosen is None else self.chosen.symbols
            decimals = min((self.columns.decimals(kind) for kind in self.data_types), key=lambda each: each.scale)
            now = chosen(self.venue.name, self._asked, listed, decimals or Decimals.STANDARD, before)
            if self.chosen is None:  # what was known before is known before anything is heard
                await self.account.begin(now.symbols)
            self._choose(now)
            await asyncio.sleep(self.timing.listing)

    def _choose(self, now: Chosen) -> None:
        before = self.chosen
        self.chosen = now
        self.columns.currencies.update(now.currencies)
        for name, why in now.left_out.items():
            if before is None or before.left_out.get(name) != why:
                _log.warning("symbol.left_out", venue=self.venue.name, symbol=name, reason=why)
        for name, status in now.not_trading.items():
            if before is None or before.not_trading.get(name) != status:
                _log.warning("symbol.halted", venue=self.venue.name, symbol=name, status=status)
        old_symbols = set() if before is None else set(before.symbols)
        added = [name for name in now.symbols if name not in old_symbols]
        removed = old_symbols - set(now.symbols)
        if before is not None and (added or removed):
            _log.info("symbols.changed", venue=self.venue.name, added=added[:20], removed=sorted(removed)[:20])
        for kinds in ([kind] for kind in self.data_types) if self.venue.separate else (self.data_types,):
            self._spread(kinds, added, removed)
        self._watch.forget(removed)
        self._watch.expect([(kind, name) for kind in self.data_types for name in added], time.monotonic())

    def _spread(self, kinds: Sequence[DataType], added: Sequence[str], removed: Collection[str]) -> None:
        """Give new symbols to lines with room, and to new ones; take those that are gone from theirs."""
        room = max(1, min(int(self.venue.limits.streams_a_connection * SHARE), MOST_STREAMS) // len(kinds))
        rest = list(added)
        for line in self._lines:
            if line.data_types != tuple(kinds):
                continue
            gone = [name for name in line.symbols if name in removed]
            free = max(0, room - len(line.symbols) + len(gone))
            taken, rest = rest[:free], rest[free:]
            if gone or taken:
                line.change(taken, gone)
                if DataType.TRADES in kinds:
                    self.account.forget(gone)
                    if line.socket is not None:
                        self.account.connected(line.socket.number, taken)
        for start in range(0, len(rest), room):
            self._begin_line(kinds, rest[start : start + room])

    def _begin_line(self, kinds: Sequence[DataType], symbols: Sequence[str]) -> None:
        def made() -> Socket:
            return Socket(next(self._numbers), self.venue, self._web, self._heard, self.timing)

        def carries(socket: Socket, stands: bool) -> None:
            if stands:
                self._sockets[socket.number] = (socket, line)
                if DataType.TRADES in line.data_types:
                    self.account.connected(socket.number, socket.symbols)
                metrics.FEED_CONNECTIONS.labels(self.venue.exchange).inc()
            elif self._sockets.pop(socket.number, None) is not None:
                # What it said last is read before it is said to be gone.
                self._read_frames()
                if DataType.TRADES in line.data_types:
                    self.account.disconnected(socket.number, socket.symbols)
                metrics.FEED_CONNECTIONS.labels(self.venue.exchange).dec()

        line = Line(self.venue, kinds, symbols, made=made, pace=self._pace, timing=self.timing, carries=carries)
        self._lines[line] = asyncio.create_task(line.run())

    # --- what is heard --------------------------------------------------------------------------------------------------

    def _heard(self, frame: Frame) -> None:
        frames = self._frames
        frames.append(frame)
        if len(frames) >= MOST_FRAMES:
            self._read_frames()
        elif self._reading is None:
            self._reading = asyncio.get_running_loop().call_later(self.timing.gather, self._read_frames)

    def _read_frames(self) -> None:
        """Read what has gathered."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        frames, self._frames = self._frames, []
        if not frames:
            return
        heard = self.venue.parse(frames)
        silent = Counter(notice.connection for notice in heard.notices)
        # A loop over connections: a handful, whose messages are counted in C.
        for number, messages in Counter([frame.connection for frame in frames]).items():
            held = self._sockets.get(number)
            if held is not None and heard.events and messages > silent[number]:
                held[0].got_data()
                held[1].got_data()
        self._take(heard, len(frames))

    def _take(self, heard: Heard, messages: int) -> None:
        exchange, unknown = self.venue.exchange, 0
        for notice in heard.notices:
            if len(self.notices) < _MOST_NOTICES:  # names come from the exchange: there may be any number of them
                self.notices[notice.kind, notice.text[:100]] += 1
            unknown += notice.kind is NoticeKind.UNKNOWN
            held = self._sockets.get(notice.connection)
            if notice.kind is NoticeKind.ENDING and held is not None:
                held[1].exchange("announced")
            elif notice.kind is NoticeKind.REFUSED:
                _log.warning("subscription.refused", venue=self.venue.name, reason=notice.text)
                if held is not None:
                    self._exchange(held[1], "refused")
        bad = len(heard.unreadable)
        metrics.FEED_MESSAGES.labels(exchange, "read").inc(messages - unknown - bad if messages > bad + unknown else 0)
        metrics.FEED_MESSAGES.labels(exchange, "unknown").inc(unknown)
        metrics.FEED_MESSAGES.labels(exchange, "unreadable").inc(bad)
        for kind, events in heard.events.items():
            self._has_heard = True
            self._symbols_seen.setdefault(kind, []).append(events.column("symbol"))
            self._measure_delay(kind, events)
            self.account.heard(kind, events)
        self.handover.put(list(heard.events.items()), heard.unreadable)
        if self.handover.is_full and not self._is_held:
            self._hold()

    def _measure_delay(self, kind: DataType, events: pa.RecordBatch) -> None:
        if kind is not DataType.TRADES:
            return
        late = pc.subtract(
            events.column("ingestion_timestamp").cast(pa.int64()), events.column("timestamp").cast(pa.int64())
        )
        least = pc.min(late).as_py()
        self._least_delay = least if self._least_delay is None else min(self._least_delay, least)

    def _exchange(self, line: Line, why: str) -> None:
        now = time.monotonic()
        if now - self._exchanged.get(line, -_EXCHANGE_SECONDS) >= min(_EXCHANGE_SECONDS, self.timing.stream):
            self._exchanged[line] = now
            line.exchange(why)

    # --- what is looked at ----------------------------------------------------------------------------------------------

    async def _look(self, began: float) -> None:
        while True:
            await asyncio.sleep(self.timing.look)
            now = time.monotonic()
            self._look_at_streams(now)
            exchange = self.venue.exchange
            metrics.FEED_WAITING.labels(exchange).set(self.handover.rows)
            if self._least_delay is not None:
                metrics.FEED_CLOCK_DIFFERENCE.labels(exchange).set(self._least_delay / 1e6)
                self._least_delay = None
            if self._is_held and self.handover.rows <= self.handover.most // 2:
                self._go_on()
            self._give_up(now - began)
            for line, task in self._lines.items():
                if task.done():
                    task.result()
                    _log.error("line.ended", venue=self.venue.name, symbols=len(line.symbols))

    def _look_at_streams(self, now: float) -> None:
        seen, self._symbols_seen = self._symbols_seen, {}
        for kind, columns in seen.items():
            counted = pc.value_counts(pa.concat_arrays(columns)).to_pylist()
            for each in counted:
                self._watch.seen((kind, each["values"]), each["counts"], now)
        suspects: list[Stream] = self._watch.suspects(now)
        for line in self._lines:
            socket = line.socket
            # Where nothing at all is heard, the connection is silent, and that is looked at by itself.
            if socket is None or not socket.data_came.is_set() or now - socket.heard_at > self.timing.silent / 2:
                continue
            here = [name for kind, name in suspects if kind in line.data_types and name in line.symbols]
            if here:
                _log.warning("stream.silent", venue=self.venue.name, symbols=here[:20], connection=socket.number)
                self._exchange(line, "stream")

    def _hold(self) -> None:
        self._is_held = True
        _log.error("feed.held", venue=self.venue.name, waiting=self.handover.rows, reason="Kafka is too slow")
        for line in self._lines:
            line.hold()

    def _go_on(self) -> None:
        self._is_held = False
        _log.info("feed.released", venue=self.venue.name, waiting=self.handover.rows)
        for line in self._lines:
            line.go_on()

    def _give_up(self, seconds: float) -> None:
        """A feed that never heard anything, and is refused where it runs, ends: why is then said where people look."""
        if self._has_heard or seconds < _FIRST_HEARD_SECONDS:
            return
        for trouble in (self._trouble, *(line.trouble for line in self._lines)):
            if isinstance(trouble, RefusedPlaceError):
                raise trouble
