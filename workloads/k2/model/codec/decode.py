"""Payloads → Arrow batch of events, by columns; what cannot be read is reported one by one.

Messages of one schema are joined as one Avro container block and read in one call (`wire.py`). Joining is safe because
afterwards three things are checked: there are as many rows as messages; each row's header is the one that its message
had; and each row's encoded length is its message's (`lengths.py`), so that bytes too many in one message cannot make up
for bytes too few in the next. When a check fails the messages are halved until each bad one stands alone; alone it is
read by fastavro too, which says what is wrong.

What no reader of Avro can see: flipped bits inside a value that is still a value of the same length.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.model.codec import wire
from k2.model.codec.further import known_names
from k2.model.codec.lengths import UnknownLengthError, record_lengths
from k2.model.codec.plan import WriterPlan, fastavro_schema, writer_plan
from k2.model.events import Decimals, arrow_schema
from k2.model.topics import DataType

SchemaOf = Callable[[int], str | None]
Payload = bytes | None
# From this many messages on, asking fastavro about each costs less than halving further.
_FEW = 64


@dataclass(frozen=True, slots=True)
class Bad:
    """A payload that is no event: its index in what was given, and why."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of some payloads: each is a row of `events` or one of `bad`, never both, never neither.

    Attributes:
        events: a batch of `arrow_schema(data_type, decimals)` and the extra columns that were asked for, in the payloads' order.
        rows: for each row the index of its payload.
        bad: those that are no event, by index.
        unknown_fields: fields that writers had and the reader has no column for. Their values are not in `events`:
            whoever may not lose them must stop here.
        schemas: the writers' schemas by which messages were read, by id.
        unknown_ids: ids that messages named and nobody knows; these messages are bad.
    """

    events: pa.RecordBatch
    rows: npt.NDArray[np.int64]
    bad: list[Bad]
    unknown_fields: frozenset[str] = field(default_factory=frozenset[str])
    schemas: Mapping[int, str] = field(default_factory=dict[int, str])
    unknown_ids: frozenset[int] = field(default_factory=frozenset[int])

    def without(self, broken: Mapping[int, str]) -> Decoded:
        """The same with some rows of `events` among the bad, each for the reason that is given."""
        if not broken:
            return self
        kept = np.ones(len(self.rows), dtype=bool)
        kept[list(broken)] = False
        bad = [*self.bad, *(Bad(int(self.rows[row]), reason) for row, reason in broken.items())]
        bad.sort(key=lambda each: each.index)
        return replace(self, events=self.events.filter(pa.array(kept)), rows=self.rows[kept], bad=bad)


def decode(
    payloads: Sequence[Payload],
    data_type: DataType,
    schema_of: SchemaOf,
    extra: Sequence[pa.Field] = (),
    decimals: Decimals = Decimals.STANDARD,
) -> Decoded:
    """Decode messages; None is a tombstone.

    Args:
        payloads: what the topic holds; 8 to 32 thousand at once are fastest (fewer: fixed costs, more: the cache).
        data_type: the events that are expected.
        schema_of: the schema of an id, None when nobody knows it. Its errors (the registry cannot be reached) pass
            through: that is no reason to call a message bad.
        extra: columns beside the event's own that are wanted where a writer has a field of that name, or of a former one
            (see `further.reader_field`); else they are null.
        decimals: of the rows, whatever the writers'; a value that they do not hold makes its message bad.
    """
    schema = pa.schema([*arrow_schema(data_type, decimals), *extra])
    fast = _all_alike(payloads, data_type, schema_of, extra, decimals)
    if fast is not None:
        return fast
    groups, bad = _grouped(payloads)
    unknown: set[str] = set()
    schemas: dict[int, str] = {}
    strangers: set[int] = set()
    parts: list[tuple[list[int], pa.RecordBatch]] = []
    for schema_id, indices in groups.items():
        text = schema_of(schema_id)
        if text is None:
            strangers.add(schema_id)
            bad.extend(Bad(index, f"schema id {schema_id} is not known to the registry") for index in indices)
            continue
        plan = writer_plan(text, data_type)
        refusal = plan.refusal_of(extra)
        if refusal is not None:
            bad.extend(Bad(index, f"schema id {schema_id}: {refusal}") for index in indices)
            continue
        unknown |= plan.unknown_fields
        schemas[schema_id] = text
        found, worse = _group(plan, text, [(index, payloads[index] or b"") for index in indices], extra, decimals)
        parts.extend(found)
        bad.extend(worse)
    bad.sort(key=lambda each: each.index)
    events, rows = _in_order(parts, schema)
    return Decoded(events, rows, bad, frozenset(unknown - known_names(extra)), schemas, frozenset(strangers))


def _all_alike(
    payloads: Sequence[Payload],
    data_type: DataType,
    schema_of: SchemaOf,
    extra: Sequence[pa.Field],
    decimals: Decimals,
) -> Decoded | None:
    """The usual case, all good and of one schema, without a Python loop; None when it is not that case."""
    first = payloads[0] if payloads else None
    if first is None or len(first) < wire.HEADER_BYTES or first[0] != wire.MAGIC_BYTE:
        return None
    schema_id = int.from_bytes(first[1:5], "big")
    text = schema_of(schema_id)
    if text is None:
        return None
    plan = writer_plan(text, data_type)
    if plan.refusal_of(extra) is not None:
        return None
    batch = _read(plan, payloads)
    if batch is None:
        return None
    events, bad = plan.resolve(batch, decimals, extra)
    if bad:
        return None
    unknown = plan.unknown_fields - known_names(extra) if extra else plan.unknown_fields
    return Decoded(events, np.arange(len(payloads)), [], unknown, {schema_id: text})


def _read(plan: WriterPlan, payloads: Sequence[Payload]) -> pa.RecordBatch | None:
    """The messages as a batch of the writer's columns; None unless every check holds."""
    count = len(payloads)
    try:
        # A tombstone among them is a TypeError of join and of len.
        joined = b"".join(payloads)  # pyright: ignore[reportArgumentType, reportCallIssue]
        sizes = np.fromiter(map(len, payloads), np.int64, count)  # pyright: ignore[reportArgumentType]
        batch = wire.read_block(wire.container(plan.prefix, count, joined), count)
        if batch.num_rows != count or not _one_header(batch, joined[: wire.HEADER_BYTES]):
            return None
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        lengths = record_lengths(columns, list(plan.fields), count)
    except UnknownLengthError:
        return None
    except Exception:  # noqa: BLE001 - the reader's errors have no public class, and any of them means: one by one
        return None
    return batch if np.array_equal(lengths, sizes) else None


def _one_header(batch: pa.RecordBatch, header: bytes) -> bool:
    column = batch.column(wire.HEADER_FIELD)
    start = column.offset * wire.HEADER_BYTES
    # As bytes: comparing a memoryview goes byte by byte, and took longer than all the decoding.
    raw = column.buffers()[1].to_pybytes()[start : start + len(column) * wire.HEADER_BYTES]
    return raw == header * len(column)


def _grouped(payloads: Sequence[Payload]) -> tuple[dict[int, list[int]], list[Bad]]:
    """Indices by schema id, and those that have no id. Only blocks with something odd in them come here."""
    groups: dict[int, list[int]] = {}
    bad: list[Bad] = []
    for index, payload in enumerate(payloads):
        if payload is None:
            bad.append(Bad(index, "tombstone (no value)"))
        elif len(payload) >= 1 and payload[0] != wire.MAGIC_BYTE:
            bad.append(Bad(index, f"not Confluent framing: first byte 0x{payload[0]:02x}, expected 0x00"))
        elif len(payload) < wire.HEADER_BYTES:
            bad.append(Bad(index, f"{len(payload)} bytes are no Confluent header"))
        else:
            groups.setdefault(int.from_bytes(payload[1:5], "big"), []).append(index)
    return groups, bad


def _group(
    plan: WriterPlan, text: str, members: list[tuple[int, bytes]], extra: Sequence[pa.Field], decimals: Decimals
) -> tuple[list[tuple[list[int], pa.RecordBatch]], list[Bad]]:
    """Messages of one schema: batches of rows with their indices, and the bad ones."""
    good: list[tuple[list[int], pa.RecordBatch]] = []
    bad: list[Bad] = []
    waiting = [members]
    while waiting:
        some = waiting.pop()
        indices = [index for index, _ in some]
        batch = _read(plan, [payload for _, payload in some])
        reason = ""
        if batch is None and len(some) == 1:
            batch, reason = _alone(plan, text, some[0][1])
        if batch is not None:
            events, rows = plan.resolve(batch, decimals, extra)
            bad.extend(Bad(indices[row], why) for row, why in rows.items())
            kept = [row for row in range(len(some)) if row not in rows]
            good.append(([indices[row] for row in kept], events.take(pa.array(kept, pa.int64())) if rows else events))
        elif len(some) == 1:
            bad.append(Bad(indices[0], reason))
        else:
            waiting += _divided(text, some)
    return good, bad


def _divided(text: str, some: list[tuple[int, bytes]]) -> list[list[tuple[int, bytes]]]:
    """Smaller parts of messages of which at least one is bad or unusual."""
    if len(some) > _FEW:
        return [some[: len(some) // 2], some[len(some) // 2 :]]
    suspects = {index for index, payload in some if _problem(text, payload)}
    rest = [each for each in some if each[0] not in suspects]
    alone = [[each] for each in some if each[0] in suspects]
    return [*alone, rest] if alone and rest else [[each] for each in some]


def _alone(plan: WriterPlan, text: str, payload: bytes) -> tuple[pa.RecordBatch | None, str]:
    """One message that was not read in company: either it is bad, or encoded in an unusual way that is allowed."""
    problem = _problem(text, payload)
    if problem:
        return None, problem
    try:
        batch = wire.read_block(wire.container(plan.prefix, 1, payload), 1)
    except Exception as error:  # noqa: BLE001 - any error of a foreign payload is its reason, never ours to fail with
        return None, f"not readable: {error}"
    return (batch, "") if batch.num_rows == 1 else (None, "truncated")


def _problem(text: str, payload: bytes) -> str:
    """What fastavro says is wrong with a message; empty when it reads it to its last byte."""
    import fastavro

    body = io.BytesIO(payload[wire.HEADER_BYTES :])
    try:
        fastavro.schemaless_reader(body, fastavro_schema(text), None)
    except EOFError:
        return "truncated"
    except UnicodeDecodeError:
        return "invalid UTF-8 in a string"
    except IndexError:
        return "an enum or union branch that does not exist"
    except Exception as error:  # noqa: BLE001 - as above
        said = str(error) or type(error).__name__
        return "invalid uuid" if "UUID" in said else f"not readable: {said}"
    left = len(payload) - wire.HEADER_BYTES - body.tell()
    return f"{left} trailing bytes" if left > 0 else ""


def _in_order(
    parts: list[tuple[list[int], pa.RecordBatch]], schema: pa.Schema
) -> tuple[pa.RecordBatch, npt.NDArray[np.int64]]:
    """The parts as one batch in the order of their indices."""
    parts = [part for part in parts if part[0]]
    if not parts:
        return _empty(schema), np.zeros(0, np.int64)
    rows = np.concatenate([np.array(indices, np.int64) for indices, _ in parts])
    order = np.argsort(rows, kind="stable")
    table = pa.Table.from_batches([batch for _, batch in parts], schema=schema)
    return table.take(pa.array(order)).combine_chunks().to_batches()[0], rows[order]


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], each.type) for each in schema], schema=schema)
