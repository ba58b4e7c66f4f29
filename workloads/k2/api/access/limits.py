"""How much one key, and all together, may ask of this process: requests a second, at a time, rows a day; and who waits.

All of it runs on the event loop, so nothing here needs a lock, and a request that is refused has cost microseconds.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from k2.api.access.keys import KeyLimits
from k2.model.errors import UserError, WorldError
from k2.model.lru import Lru
from k2.model.times import DAY_SECONDS, DAY_US, iso
from k2.obs import metrics

_KEYS_REMEMBERED = 10_000


class RateLimitedError(UserError):
    """The key has asked as much as it may for now. `retry_after`: seconds until it may ask again."""

    def __init__(self, what: str, *, expected: str, retry_after: float) -> None:
        super().__init__(what, expected=expected, remedy=f"Ask again in {math.ceil(retry_after)} s")
        self.retry_after = retry_after


class OverloadedError(WorldError):
    """So much is asked that further questions would only wait. `retry_after`: seconds."""

    retry_after = 1.0


@dataclass(slots=True)
class TokenBucket:
    """Tokens that come back at `rate` a second up to `size`; a request takes one. Times are seconds of any clock."""

    rate: float
    size: int
    tokens: float
    at: float

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        self.tokens = min(float(self.size), self.tokens + max(0.0, now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def seconds_to(self, tokens: float) -> float:
        """Seconds from the last `take` until there are so many tokens."""
        return max(0.0, (tokens - self.tokens) / self.rate)


@dataclass(slots=True)
class _Account:
    """What one key has used."""

    limits: KeyLimits
    bucket: TokenBucket | None
    under_way: int = 0
    day: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left to a key, for the headers of its answers."""

    limits: KeyLimits
    left: int = 0
    seconds_to_full: float = 0.0
    rows_left: int = 0
    seconds_to_midnight: float = 0.0

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The fields of draft-ietf-httpapi-ratelimit-headers-10, and the three of its early versions that clients know.

        `RateLimit-Policy` names each bound (q units in w seconds), `RateLimit` what is left of it (r) and after how many
        seconds it is whole again (t).
        """
        policies: list[str] = []
        left: list[str] = []
        found: list[tuple[bytes, bytes]] = []
        if self.limits.requests_per_second is not None:
            size, rate = self.limits.bucket, self.limits.requests_per_second
            reset = math.ceil(self.seconds_to_full)
            policies.append(f'"requests";q={size};w={max(1, math.ceil(size / rate))}')
            left.append(f'"requests";r={self.left};t={reset}')
            old = {"limit": size, "remaining": self.left, "reset": reset}
            found += [(f"ratelimit-{name}".encode(), str(value).encode()) for name, value in old.items()]
        if self.limits.rows_per_day is not None:
            policies.append(f'"rows";q={self.limits.rows_per_day};w={DAY_SECONDS};qu="rows"')
            left.append(f'"rows";r={self.rows_left};t={math.ceil(self.seconds_to_midnight)}')
        if policies:
            found.append((b"ratelimit-policy", ", ".join(policies).encode()))
            found.append((b"ratelimit", ", ".join(left).encode()))
        return found


class Meter:
    """Counts what each key uses. The least recently used of very many keys are forgotten.

    Args:
        clock: seconds since 1970, for days; `monotonic`: seconds that never go back, for rates.
    """

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._accounts: Lru[str, _Account] = Lru(_KEYS_REMEMBERED)

    def admit(self, key_id: str, limits: KeyLimits) -> Callable[[], None]:
        """Count a request in; the caller calls what it gets when the request ends.

        Raises:
            RateLimitedError: one of the key's limits is used up.
        """
        account = self._account(key_id, limits)
        if limits.rows_per_day is not None and self._rows_today(account) >= limits.rows_per_day:
            midnight = iso((account.day + 1) * DAY_US)
            raise RateLimitedError(
                "The key has had its rows of the day",
                expected=f"at most {limits.rows_per_day} rows until {midnight}",
                retry_after=self._to_midnight(),
            )
        if limits.concurrent is not None and account.under_way >= limits.concurrent:
            raise RateLimitedError(
                "Too many requests of this key are under way",
                expected=f"at most {limits.concurrent} at a time",
                retry_after=1.0,
            )
        bucket = account.bucket
        if bucket is not None and not bucket.take(self._monotonic()):
            raise RateLimitedError(
                "Too many requests",
                expected=f"at most {limits.requests_per_second:g} a second, {limits.bucket} at once",
                retry_after=bucket.seconds_to(1),
            )
        account.under_way += 1

        def end() -> None:
            account.under_way -= 1

        return end

    def count_rows(self, key_id: str, limits: KeyLimits, rows: int) -> None:
        """Count rows that an answer held. One answer may go over the day's; the next request is refused then."""
        if limits.rows_per_day is not None:
            account = self._account(key_id, limits)
            self._rows_today(account)
            account.rows += rows

    def allowance(self, key_id: str, limits: KeyLimits) -> Allowance:
        """What is left to the key."""
        account = self._account(key_id, limits)
        bucket = account.bucket
        return Allowance(
            limits,
            left=0 if bucket is None else int(bucket.tokens),
            seconds_to_full=0.0 if bucket is None else bucket.seconds_to(bucket.size),
            rows_left=max(0, (limits.rows_per_day or 0) - self._rows_today(account)),
            seconds_to_midnight=self._to_midnight(),
        )

    def _account(self, key_id: str, limits: KeyLimits) -> _Account:
        account = self._accounts.get(key_id)
        if account is None or account.limits != limits:
            rate = limits.requests_per_second
            full = None if rate is None else TokenBucket(rate, limits.bucket, limits.bucket, self._monotonic())
            # Changed limits begin with a full bucket; what is under way and the day's rows stay counted.
            account = _Account(limits, full) if account is None else _renewed(account, limits, full)
            self._accounts.put(key_id, account)
        return account

    def _rows_today(self, account: _Account) -> int:
        today = int(self._clock() // DAY_SECONDS)
        if account.day != today:
            account.day, account.rows = today, 0
        return account.rows

    def _to_midnight(self) -> float:
        return DAY_SECONDS - self._clock() % DAY_SECONDS


def _renewed(account: _Account, limits: KeyLimits, bucket: TokenBucket | None) -> _Account:
    account.limits, account.bucket = limits, bucket
    return account


@dataclass(frozen=True, slots=True)
class GateLimits:
    """How many requests are answered at a time, how many wait and for how long, and how many answers are being sent."""

    running: int = 16
    waiting: int = 64
    wait_seconds: float = 5.0
    sending: int = 64


@dataclass(slots=True, eq=False)
class _Waiter:
    key_id: str
    turn: asyncio.Future[None]


@dataclass(slots=True)
class Gate:
    """Lets so many requests run at a time; others wait, within bounds, or are refused at once.

    The next to run is of the key with the fewest running, so that one key's many requests do not keep others out.
    """

    limits: GateLimits
    _running: Counter[str] = field(default_factory=Counter)
    _waiting: list[_Waiter] = field(default_factory=list)
    _sending: int = 0

    async def enter(self, key_id: str) -> Pass:
        """Wait for a turn.

        Raises:
            OverloadedError: too many wait, or it took too long.
        """
        if self._sending >= self.limits.sending:
            raise _overloaded("answers", "As many answers as can be are being sent")
        if self._waiting or self._running.total() >= self.limits.running:
            await self._wait(key_id)
        else:
            self._running[key_id] += 1
        metrics.HTTP_RUNNING.set(self._running.total())
        return Pass(self, key_id)

    async def _wait(self, key_id: str) -> None:
        if len(self._waiting) >= self.limits.waiting:
            raise _overloaded("queue", f"{len(self._waiting)} requests wait already")
        waiter = _Waiter(key_id, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        metrics.HTTP_WAITING.set(len(self._waiting))
        try:
            # wait_for would lose a cancellation that comes with the turn (before Python 3.12).
            async with asyncio.timeout(self.limits.wait_seconds):
                await waiter.turn
        except BaseException as error:
            if waiter.turn.done() and not waiter.turn.cancelled():
                self.leave(key_id)  # its turn came as it gave up
            if isinstance(error, TimeoutError):
                seconds = f"{self.limits.wait_seconds:g} s"
                raise _overloaded("wait", f"The request waited {seconds} and was not begun") from None
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            metrics.HTTP_WAITING.set(len(self._waiting))

    def leave(self, key_id: str) -> None:
        """A request of the key ended: the next one's turn."""
        self._running[key_id] -= 1
        if self._running[key_id] <= 0:
            del self._running[key_id]
        while self._waiting and self._running.total() < self.limits.running:
            following = min(self._waiting, key=lambda waiter: self._running[waiter.key_id])
            self._waiting.remove(following)
            if not following.turn.done():
                self._running[following.key_id] += 1
                following.turn.set_result(None)
        metrics.HTTP_RUNNING.set(self._running.total())

    def begin_sending(self) -> None:
        """An answer that takes its time is being sent."""
        self._sending += 1
        metrics.HTTP_SENDING.set(self._sending)

    def end_sending(self) -> None:
        """It was sent, or given up."""
        self._sending -= 1
        metrics.HTTP_SENDING.set(self._sending)


@dataclass(slots=True)
class Pass:
    """One request's turn: it runs until its answer begins, and is then sent for as long as the client takes."""

    gate: Gate
    key_id: str
    _state: str = "running"

    def answer_begins(self) -> None:
        """What is left is to send: a slow client must not hold the turn."""
        if self._state == "running":
            self._state = "sending"
            self.gate.begin_sending()
            self.gate.leave(self.key_id)

    def end(self) -> None:
        """The request is over."""
        if self._state == "running":
            self.gate.leave(self.key_id)
        elif self._state == "sending":
            self.gate.end_sending()
        self._state = "over"


def _overloaded(reason: str, what: str) -> OverloadedError:
    metrics.HTTP_REFUSED.labels(reason).inc()
    return OverloadedError(f"{what}: the service is asked more than it can answer. Ask again later")
