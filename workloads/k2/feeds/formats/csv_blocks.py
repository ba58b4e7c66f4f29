"""From a block of lines to columns of text, with the line of every row and a reason for every line that is no row.

Lines are screened before Arrow parses them (not UTF-8, line breaks inside quotes, bare carriage returns, blank lines),
so that a row is always one line and its number is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv

from k2.feeds.formats.files import LineBlock
from k2.model.compute import pc
from k2.model.events import Decimals

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
_ENCODED = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that is not loaded: its number in the file (from 1), why, and its bytes as they came (no line end)."""

    line: int
    reason: str
    raw: bytes


class _Bytes(Protocol):
    def raw(self, line: int) -> bytes:
        """A row as it came, by its number in the file."""
        ...


@dataclass(slots=True)
class Rows:
    """The rows of a block as columns of text; checks take rows out with a reason.

    `columns` are dictionary-encoded (checks then look at each distinct value once), `lines` the number of each row's line;
    `decimals` says how large and fine their amounts may be; `typed` has the columns that are times, dates, clocks
    or (of plain ones) numbers in the file.
    """

    columns: dict[str, pa.Array]
    lines: Ints
    rejected: list[Rejected]
    blank: int
    _lines_of: _Bytes
    decimals: Decimals = Decimals.STANDARD
    typed: Mapping[str, pa.Array] = field(default_factory=dict[str, pa.Array])
    ok: Mask = field(init=False)
    passed_over: int = 0

    def __post_init__(self) -> None:
        self.ok = np.ones(len(self.lines), dtype=bool)

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def read(self) -> int:
        """Rows in the block, good and bad."""
        return int(self.ok.sum()) + len(self.rejected)

    def reject(self, bad: Mask, reason: Callable[[int], str]) -> None:
        """Take out the rows of the mask; `reason` is asked for each row that was still good (a row has one reason)."""
        # A loop over bad rows only: each needs its own words.
        for row in np.flatnonzero(bad & self.ok).tolist():
            line = int(self.lines[row])
            self.rejected.append(Rejected(line, reason(row), self._lines_of.raw(line)))
        self.ok &= ~bad

    def pass_over(self, others: Mask) -> None:
        """Take out rows that are no events of this kind: they are counted, and neither read nor rejected."""
        self.passed_over += int((others & self.ok).sum())
        self.ok &= ~others

    def value(self, column: str, row: int) -> str:
        """One value as text, for a reason."""
        return self.columns[column][row].as_py()


class _Lines:
    """Where the lines of a block begin and end."""

    def __init__(self, block: LineBlock) -> None:
        self._data = block.data
        self._first = block.first_line
        self.bytes = np.frombuffer(block.data, dtype=np.uint8)
        breaks = np.flatnonzero(self.bytes == 10)
        if not breaks.size or breaks[-1] != len(block.data) - 1:
            breaks = np.append(breaks, len(block.data))
        self.ends = breaks
        self.starts = np.concatenate([[0], breaks[:-1] + 1])

    def __len__(self) -> int:
        return len(self.ends)

    def array(self) -> pa.BinaryArray:
        """The lines as an Arrow column, line ends included, without a copy."""
        offsets = np.append(self.starts, len(self._data)).astype(np.int32)
        return pa.BinaryArray.from_buffers(
            pa.binary(), len(self), [None, pa.py_buffer(offsets), pa.py_buffer(self._data)]
        )

    def raw(self, line: int) -> bytes:
        """A line's bytes without its line end, by its number in the file."""
        index = line - self._first
        return self._data[self.starts[index] : self.ends[index]].removesuffix(b"\r")

    def of(self, positions: Ints) -> Ints:
        """Index of the line that each byte position lies in."""
        return np.searchsorted(self.ends, positions)


def parse_rows(
    block: LineBlock,
    names: Sequence[str],
    plain: frozenset[str] = frozenset(),
    skip_first: bool = False,
    separator: str = ",",
    taken: Sequence[str] | None = None,
) -> Rows:
    """Parse a block into columns of text.

    Args:
        block: whole lines.
        names: the columns' names; a line with more or fewer values is rejected.
        plain: columns that come as plain strings, because nearly every value is another one; the rest are encoded.
        skip_first: the block's first line is a header.
        separator: the character between values.
        taken: the columns that are wanted of them; None: all.
    """
    lines = _Lines(block)
    wanted = names if taken is None else taken
    keep, rejected, blank = _screened(block, lines, skip_first, separator)
    data = block.data if keep.all() else _kept(block.data, lines, keep)
    numbers = np.flatnonzero(keep) + block.first_line
    table, bad = _parsed(data, names, plain, separator, wanted)
    cut_short = block.at_end and not block.data.endswith(b"\n")
    for row, found in bad:
        line = int(numbers[row])
        reason = f"{found} columns, expected {len(names)}"
        if cut_short and line == block.first_line + len(lines) - 1:
            reason = f"the file ends in the middle of this line ({reason})"
        rejected.append(Rejected(line, reason, lines.raw(line)))
    numbers = np.delete(numbers, [row for row, _ in bad])
    if table is not None and table.num_rows != len(numbers):
        raise AssertionError(f"{table.num_rows} rows came of {len(numbers)} lines at byte {block.start}")
    columns = {name: _empty(name in plain) if table is None else _whole(table[name]) for name in wanted}
    return Rows(columns, numbers, rejected, blank, lines)


def _screened(block: LineBlock, lines: _Lines, skip_first: bool, separator: str) -> tuple[Mask, list[Rejected], int]:
    keep = np.ones(len(lines), dtype=bool)
    keep[0] = not skip_first
    returns = b"\r" in block.data
    width = lines.ends - lines.starts
    if returns:
        ends_in_return = (width > 0) & (lines.bytes[np.maximum(lines.ends - 1, 0)] == 13)
        width = width - ends_in_return
    empty = keep & (width == 0)
    keep &= ~empty
    rejected: list[Rejected] = []

    def reject(bad: Mask, reason: str) -> None:
        for index in np.flatnonzero(bad & keep).tolist():
            line = index + block.first_line
            rejected.append(Rejected(line, reason, lines.raw(line)))
        np.logical_and(keep, ~bad, out=keep)

    if not block.data.isascii():
        reject(_not_utf8(block.data, lines), "not UTF-8 text")
    if b'"' in block.data:
        # Arrow opens a quote at the start of a value only, and would read on behind the line to close it.
        reject(
            ~pc.match_substring_regex(lines.array(), _quoted_well(separator)).to_numpy(zero_copy_only=False),
            "a quote that is not closed on this line, or stray (values with line breaks cannot be loaded)",
        )
    if returns:
        inside = np.flatnonzero(lines.bytes == 13)
        followed = lines.bytes[np.minimum(inside + 1, len(block.data) - 1)] == 10
        bare = inside[~followed & (inside + 1 < len(block.data))]
        reject(np.bincount(lines.of(bare), minlength=len(lines)) > 0, "a carriage return in the middle of the line")
    if b"\0" in block.data:
        reject(np.bincount(lines.of(np.flatnonzero(lines.bytes == 0)), minlength=len(lines)) > 0, "a zero byte")
    return keep, rejected, int(empty.sum())


def _quoted_well(separator: str) -> str:
    """The pattern of a line all of whose quotes begin and end a value."""
    mark = re.escape(separator)
    value = rf'(?:[^"{mark}\r\n][^{mark}\r\n]*|"(?:[^"\r\n]|"")*"|)'
    return rf"^{value}(?:{mark}{value})*\r?\n?$"


def _not_utf8(data: bytes, lines: _Lines) -> Mask:
    bad = np.zeros(len(lines), dtype=bool)
    start = 0
    # One turn for each bad line: decoding goes on behind it.
    while True:
        try:
            data[start:].decode("utf-8")
        except UnicodeDecodeError as error:
            index = int(lines.of(np.array([start + error.start]))[0])
            bad[index] = True
            start = int(lines.ends[index]) + 1
            if start >= len(data):
                return bad
        else:
            return bad


def _kept(data: bytes, lines: _Lines, keep: Mask) -> bytes:
    length = np.diff(np.append(lines.starts, len(data)))
    return lines.bytes[np.repeat(keep, length)].tobytes()


def _parsed(
    data: bytes, names: Sequence[str], plain: frozenset[str], separator: str, wanted: Sequence[str]
) -> tuple[pa.Table | None, list[tuple[int, int]]]:
    """The table, and (row, number of columns found) of each line with the wrong number of them."""
    if not data:
        return None, []
    bad: list[tuple[int, int]] = []

    def wrong_width(row: Any) -> str:
        bad.append((row.number - 1, row.actual_columns))
        return "skip"

    table = pa_csv.read_csv(
        pa.BufferReader(data),
        read_options=pa_csv.ReadOptions(column_names=list(names), use_threads=False, block_size=len(data) + 1),
        parse_options=pa_csv.ParseOptions(
            delimiter=separator, invalid_row_handler=wrong_width, ignore_empty_lines=False
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types={name: pa.string() if name in plain else _ENCODED for name in wanted},
            include_columns=list(wanted),
            strings_can_be_null=False,
            null_values=[],
            check_utf8=False,  # the screening did
        ),
    )
    return table, bad


def _whole(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.unify_dictionaries().combine_chunks()


def _empty(plain: bool) -> pa.Array:
    empty = pa.array([], pa.string())
    return empty if plain else empty.dictionary_encode()
