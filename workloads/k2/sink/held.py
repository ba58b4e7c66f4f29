"""What a sink holds between two commits: decoded rows, dead letters, and exactly which offsets they account for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.bus.dead_letters import Headed, was_sent_again
from k2.lake.appends.batch import Batch
from k2.lake.payloads import compact, in_one_piece
from k2.model.codec.decode import Decoded
from k2.model.tables import OFFSET, PARTITION

DECODE_ROWS = 32_768
"""Messages decoded at once: enough for the columns to pay, few enough to stay in the cache (measured)."""

GATHERED = 8
"""Decoded blocks that are copied into one. What the decoder gives is held whole as long as any column of it is, the ones
that are not needed any more included: 198 bytes a row, 141 when copied (measured)."""


class PolledColumns(Protocol):
    """Messages of one poll, as columns of equal length."""

    @property
    def payloads(self) -> list[bytes | None]:
        """Values as they came; None is a tombstone."""
        ...

    @property
    def partitions(self) -> npt.NDArray[np.int32]:
        """Partition of each."""
        ...

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Offset of each."""
        ...

    @property
    def messages(self) -> Sequence[Headed]:
        """The messages themselves."""
        ...


@dataclass(frozen=True, slots=True)
class Poison:
    """A message that is no event, with where it came from and why; `message` has its key and headers.

    `rows_before` is how many rows of its batch were read before it.
    """

    payload: bytes | None
    partition: int
    offset: int
    reason: str
    message: Headed | None = None
    rows_before: int = 0


_Columns = tuple[list[bytes | None], Sequence[Headed], npt.NDArray[np.int32], npt.NDArray[np.int64]]
"""Payloads, messages, partitions and offsets, of equal length."""

Decode = Callable[[Sequence[bytes | None]], Decoded]
"""Payloads to rows. May raise a `WorldError` (the registry does not answer): nothing is lost, it is called again."""


@dataclass(frozen=True, slots=True)
class HeldBatch:
    """A batch cut off for the committer, with the dead letters that must be acknowledged before it is committed."""

    batch: Batch
    poison: Sequence[Poison]
    bytes: int


@dataclass(frozen=True, slots=True)
class _Sought:
    """A partition that was sought to `offset`, and the first offset that came instead, if one did."""

    offset: int
    found_before: int | None


@dataclass(slots=True)
class Holding:
    """Accumulates polls into a batch. One instance for the life of a consumer; `cut` begins the next batch.

    Args:
        decode: payloads to rows; called for blocks of `DECODE_ROWS`.
        empty: a table without rows, with the columns of a batch.
    """

    decode: Decode
    empty: pa.Table
    bytes: int = 0
    messages: int = 0
    _start: dict[int, int] = field(default_factory=dict)
    _next: dict[int, int] = field(default_factory=dict)
    _payloads: list[bytes | None] = field(default_factory=list)
    _messages: list[Headed] = field(default_factory=list)
    _partitions: list[npt.NDArray[np.int32]] = field(default_factory=list)
    _offsets: list[npt.NDArray[np.int64]] = field(default_factory=list)
    _chunks: list[pa.RecordBatch] = field(default_factory=list)
    _decoded: list[pa.RecordBatch] = field(default_factory=list)
    _poison: list[Poison] = field(default_factory=list)
    _rows: int = 0
    _sought: dict[int, _Sought] = field(default_factory=dict)
    _schemas: dict[int, str] = field(default_factory=dict[int, str])

    def begin(self, partition: int, offset: int) -> None:
        """A partition was given to this consumer, or sought: everything before `offset` is the table's already."""
        self.drop({partition})
        self._start[partition] = self._next[partition] = offset
        self._sought[partition] = _Sought(offset, None)

    def drop(self, partitions: set[int]) -> None:
        """Forget what is held of these partitions, and that they are ours."""
        if any(self._next.get(p) != self._start.get(p) for p in partitions):
            gone = sorted(partitions)
            pending = [_others(columns, gone) for columns in self._pending()]
            self._payloads = [payload for payloads, _, _, _ in pending for payload in payloads]
            self._messages = [message for _, messages, _, _ in pending for message in messages]
            self._partitions = [of_partition for _, _, of_partition, _ in pending]
            self._offsets = [of_offset for _, _, _, of_offset in pending]
            self._gather()
            kept = [_not_of(chunk, gone) for chunk in self._chunks]
            self._chunks = [chunk.filter(pa.array(rows)) for chunk, rows in zip(self._chunks, kept, strict=True)]
            self._poison = _still_held(self._poison, partitions, kept)
            self._rows = sum(map(len, self._chunks))
            if not (self._payloads or self._rows or self._poison):
                self._schemas = {}
        for partition in partitions:
            self._start.pop(partition, None)
            self._next.pop(partition, None)
            self._sought.pop(partition, None)

    def add(self, polled: PolledColumns) -> dict[int, int]:
        """Take the messages of one poll. Messages of a partition that is not ours are left out.

        Returns:
            Partition → offset to seek to, once more. After a seek the first message should be the one sought; when it
            is a later one, either transaction markers lie between, or it was fetched before the seek. Read again and
            found again, it is the former.
        """
        payloads, messages, partitions, offsets = polled.payloads, polled.messages, polled.partitions, polled.offsets
        again = self._doubtful(partitions, offsets) if self._sought else {}
        strangers = [p for p in np.unique(partitions).tolist() if p not in self._next or p in again]
        if strangers:
            payloads, messages, partitions, offsets = _others((payloads, messages, partitions, offsets), strangers)
        for partition, offset in _last_by_partition(partitions, offsets).items():
            self._next[partition] = offset + 1
        self._payloads.extend(payloads)
        self._messages.extend(messages)
        self._partitions.append(partitions)
        self._offsets.append(offsets)
        self.messages += len(offsets)
        self.bytes += _size(payloads)
        if len(self._payloads) >= DECODE_ROWS:
            self.decode_pending()
        return again

    def _doubtful(self, partitions: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]) -> dict[int, int]:
        again: dict[int, int] = {}
        for partition, sought in list(self._sought.items()):
            found = offsets[partitions == partition]
            if not len(found):
                continue
            if found[0] in (sought.offset, sought.found_before):
                del self._sought[partition]
            else:
                self._sought[partition] = _Sought(sought.offset, int(found[0]))
                again[partition] = sought.offset
        return again

    def reached(self, positions: dict[int, int]) -> None:
        """The consumer's positions, which may have passed transaction markers after the last message."""
        for partition, position in positions.items():
            if partition in self._next:
                self._next[partition] = max(self._next[partition], position)

    @property
    def has_news(self) -> bool:
        """Whether there is any offset that the table does not have."""
        return self._start != self._next

    @property
    def dead(self) -> int:
        """How many of the messages that were decoded are no events."""
        return len(self._poison)

    @property
    def next(self) -> dict[int, int]:
        """Partition → next offset, of what is held and before."""
        return dict(self._next)

    def cut(self) -> HeldBatch:
        """Everything held as a batch; what comes next belongs to the next one."""
        self.decode_pending()
        ranges = {p: (self._start[p], self._next[p]) for p in self._next if self._start[p] != self._next[p]}
        dead = Counter(poison.partition for poison in self._poison)
        repeated = Counter(poison.partition for poison in self._poison if was_sent_again(poison.message))
        chunks, self._chunks, self._decoded = [*self._chunks, *self._decoded], [], []
        # One chunk a column, so that rows can be taken in any order.
        whole = in_one_piece(chunks) if chunks else self.empty
        held = HeldBatch(Batch(whole, ranges, dead, repeated, self._schemas), self._poison, self.bytes)
        self._start = dict(self._next)
        self._poison, self._schemas, self._rows, self.bytes, self.messages = [], {}, 0, 0, 0
        return held

    def _pending(self) -> list[_Columns]:
        if not self._payloads:
            return []
        return [(self._payloads, self._messages, np.concatenate(self._partitions), np.concatenate(self._offsets))]

    def decode_pending(self) -> None:
        """Decode what was added since the last time. When `decode` raises, nothing has changed: call it again."""
        if not self._payloads:
            return
        decoded = self.decode(self._payloads)
        # Of two meanings the first: so the commit sees that there were two.
        self._schemas = {**decoded.schemas, **self._schemas}
        ((payloads, messages, partitions, offsets),) = self._pending()
        self._payloads, self._messages, self._partitions, self._offsets = [], [], [], []
        self._poison.extend(
            Poison(
                payloads[bad.index],
                int(partitions[bad.index]),
                int(offsets[bad.index]),
                bad.reason,
                messages[bad.index],
                self._rows + bad.index - earlier,
            )
            for earlier, bad in enumerate(decoded.bad)
        )
        self._rows += len(decoded.rows)
        if not len(decoded.rows):
            return
        if len(decoded.rows) < len(payloads):
            partitions, offsets = partitions[decoded.rows], offsets[decoded.rows]
        rows = compact(decoded.events).append_column(PARTITION, pa.array(partitions, pa.int32()))
        self._decoded.append(rows.append_column(OFFSET, pa.array(offsets, pa.int64())))
        if len(self._decoded) >= GATHERED:
            self._gather()

    def _gather(self) -> None:
        """Copy what was decoded, which gives up everything that came with it."""
        if self._decoded:
            decoded, self._decoded = self._decoded, []
            self._chunks += in_one_piece(decoded).to_batches()


def _last_by_partition(partitions: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]) -> dict[int, int]:
    """Highest offset of each partition; within a partition a poll is in offset order."""
    values, first_from_end = np.unique(partitions[::-1], return_index=True)
    return dict(zip(values.tolist(), offsets[::-1][first_from_end].tolist(), strict=True))


def _size(payloads: Sequence[bytes | None]) -> int:
    try:
        return sum(map(len, payloads))  # pyright: ignore[reportArgumentType]
    except TypeError:  # a tombstone among them
        return sum(len(payload) for payload in payloads if payload is not None)


def _others(columns: _Columns, gone: list[int]) -> _Columns:
    """The columns without the messages of some partitions."""
    payloads, messages, partitions, offsets = columns
    kept = ~np.isin(partitions, gone)
    return list(compress(payloads, kept)), list(compress(messages, kept)), partitions[kept], offsets[kept]


def _not_of(chunk: pa.RecordBatch, gone: list[int]) -> npt.NDArray[np.bool_]:
    return ~np.isin(chunk.column(PARTITION).to_numpy(), gone)


def _still_held(poison: list[Poison], partitions: set[int], kept: list[npt.NDArray[np.bool_]]) -> list[Poison]:
    """Those of other partitions, each with as many rows before it as there are now."""
    before = np.cumsum(np.concatenate([np.zeros(1, dtype=bool), *kept]))
    return [
        replace(each, rows_before=int(before[each.rows_before])) for each in poison if each.partition not in partitions
    ]
