"""Answers on stdout, as a table, JSON or CSV: rows while they come, in memory that does not grow with their number."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from k2.cli_query.destination import is_terminal, write
from k2.cli_query.options import Output
from k2.cli_query.waiting import Waiting
from k2.model.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from k2.client.answer import Answer

_GAP = 2
_NARROW = "--fields chooses columns, --output csv has all"
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


def say(text: str) -> None:
    """A message; stdout is for data."""
    print(text, file=sys.stderr)


def coloured() -> bool:
    """Whether colours are wanted: a terminal that knows them, and nobody said no (https://no-color.org)."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_rows(
    answer: Answer,
    output: Output,
    waiting: Waiting,
    shown: Sequence[str] | None = None,
    *,
    chosen: bool = False,
    narrow: str = _NARROW,
) -> None:
    """All rows of an answer while they come; then, on stderr, what is to be known of them.

    Args:
        answer: is read to its end.
        output: a table shows the columns of `shown`, the other forms have all.
        waiting: is told how far it is.
        shown: columns; None: all.
        chosen: the one who asks chose them, so that all are shown, however narrow the terminal is.
        narrow: how to see the columns that a terminal has no room for.
    """
    refuse_bytes(output)
    if output is Output.TABLE:
        names = [name for name in answer.schema.names if shown is None or name in shown]
        if shown is not None:
            names.sort(key=list(shown).index)
        pieces = _table_of(answer, names, waiting, room=None if chosen else _room(), narrow=narrow)
    else:
        from k2.forms.encoding import encode_batches
        from k2.forms.formats import Format

        form = Format(output.value)
        pieces = encode_batches(answer.schema, _counted(answer, waiting), form, lambda: answer.envelope)
    for piece in pieces:
        waiting.will_write()
        write(piece)
    if output is Output.JSON:
        write(b"\n")
    waiting.end()
    remarks(answer.envelope)


def refuse_bytes(output: Output) -> None:
    """A `UserError` where bytes that are no text would go to a terminal."""
    if output in (Output.PARQUET, Output.ARROW) and is_terminal():
        raise UserError(
            f"{output.value} is no text, and this is a terminal",
            expected="a file or a pipe",
            remedy=f"Add --out rows.{output.value}",
        )


def remarks(envelope: dict[str, Any]) -> None:
    """Say why there is nothing, or not all, and which trades count where that is not all."""
    if envelope.get("note"):
        say(str(envelope["note"]))
    elif envelope.get("more"):
        say(f"the first {envelope['count']:,} only: there are more (--limit)")
    if envelope.get("incomplete"):
        say(f"incomplete: {envelope['incomplete']}")
    for exchange, profile in envelope.get("profile", {}).items():
        say(f"of {exchange} only trades of the profile {profile['name']} (--profile none: all)")


def print_records(
    records: Sequence[dict[str, Any]], output: Output, *, whole: dict[str, Any], columns: Sequence[str]
) -> None:
    """Print objects of the API: JSON as the API gave it, CSV with every member, a table with the chosen ones."""
    refuse_bytes(output)
    if output is Output.JSON:
        write(json.dumps(whole, ensure_ascii=False, indent=2).encode() + b"\n")
    elif output is Output.CSV:
        import csv

        flat = [{name: _flat(value) for name, value in record.items()} for record in records]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(flat[0]) if flat else list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        write(text.getvalue().encode())
    elif output is not Output.TABLE:
        _write_records(records, output, columns)
    else:
        amounts = {"open", "high", "low", "close", "volume", "vwap"}
        print_table(columns, ([r.get(name) for name in columns] for r in records), decimals=amounts)


def _write_records(records: Sequence[dict[str, Any]], output: Output, columns: Sequence[str]) -> None:
    """Objects as rows; what is nested is JSON text."""
    import pyarrow as pa

    from k2.forms.formats import Format, encode

    flat = [{name: _flat(value) for name, value in record.items()} for record in records]
    rows = pa.Table.from_pylist(flat) if flat else pa.table({name: pa.nulls(0) for name in columns})
    for piece in encode(rows, Format(output.value), {}):
        write(piece)


def print_table(
    names: Sequence[str], rows: Iterable[Sequence[object]], *, decimals: AbstractSet[str] = frozenset()
) -> None:
    """Print a table, with as many of its columns as a terminal has room for: a number cut to fit would be another number."""
    values = [list(row) for row in rows]
    right = {
        name for number, name in enumerate(names) if name in decimals or any(isinstance(r[number], int) for r in values)
    }
    cells = [[_cell(value, name in decimals) for name, value in zip(names, row, strict=True)] for row in values]
    count = fitting(_widths(names, cells), _room())
    write(_lines(names[:count], [row[:count] for row in cells], right, [0] * count, header=True))
    _say_left_out(names[count:])


def _table_of(
    answer: Answer, names: Sequence[str], waiting: Waiting, *, room: int | None, narrow: str
) -> Iterator[bytes]:
    """Batch by batch; columns grow when a later batch needs it, but the lines before stay as they are.

    Of a table that is wider than there is room for the last columns are left out, by the width of the first batch.
    """
    import pyarrow as pa

    from k2.forms.text_columns import plain_text

    kinds = {name: answer.schema.field(name).type for name in names}
    decimals = {name for name, kind in kinds.items() if pa.types.is_decimal(kind)}
    right = decimals | {name for name, kind in kinds.items() if pa.types.is_integer(kind)}
    kept, widths = names, [0] * len(names)
    begun = False
    for batch in _counted(answer, waiting):
        columns = [plain_text(batch.column(name)).to_pylist() for name in kept]
        texts = zip(*columns, strict=True)
        cells = [[_cell(value, name in decimals) for name, value in zip(kept, row, strict=True)] for row in texts]
        if not begun:
            count = fitting(_widths(kept, cells), room)
            kept, cells, widths = kept[:count], [row[:count] for row in cells], widths[:count]
        yield _lines(kept, cells, right, widths, header=not begun)
        begun = True
    if not begun:
        yield _lines(names, [], right, widths, header=True)
    _say_left_out(names[len(kept) :], narrow)


def fitting(widths: Sequence[int], room: int | None) -> int:
    """How many of the first columns there is room for, one at least; None: for all."""
    if room is None:
        return len(widths)
    used = accumulate(widths, lambda before, width: before + _GAP + width)
    return max(1, sum(each <= room for each in used))


def _room() -> int | None:
    """The columns of the terminal; None where it is none."""
    return shutil.get_terminal_size().columns if is_terminal() else None


def _say_left_out(names: Sequence[str], narrow: str = _NARROW) -> None:
    if names:
        say(f"the terminal is too narrow for {', '.join(names)} ({narrow})")


def _counted(answer: Answer, waiting: Waiting) -> Iterator[pa.RecordBatch]:
    for batch in answer:
        waiting.came(batch.num_rows)
        yield batch


def _lines(
    names: Sequence[str], cells: Sequence[Sequence[str]], right: set[str], widths: list[int], *, header: bool
) -> bytes:
    """Aligned lines; `widths` become as large as need be."""
    from rich.cells import cell_len

    rows = [names, *cells] if header else cells
    widths[:] = map(max, widths, _widths(rows[0], rows[1:])) if rows else widths
    lines: list[str] = []
    for row in rows:
        padded: list[str] = []
        for name, text, width in zip(names, row, widths, strict=True):
            space = " " * (width - cell_len(text))
            padded.append(space + text if name in right else text + space)
        lines.append((" " * _GAP).join(padded))
    if header and coloured():
        lines[0] = f"{_BOLD}{lines[0]}{_PLAIN}"
    return "".join(f"{line}\n" for line in lines).encode()


def _widths(first: Sequence[str], others: Sequence[Sequence[str]]) -> list[int]:
    from rich.cells import cell_len

    return [max(map(cell_len, column)) for column in zip(first, *others, strict=True)]


def _flat(value: object) -> object:
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def _cell(value: object, is_decimal: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "*" if value else ""
    if is_decimal:
        whole, _, places = str(value).partition(".")
        places = places.rstrip("0")
        return f"{int(whole):,}" + (f".{places}" if places else "") if whole != "-0" else f"-0.{places}"
    return f"{value:,}" if isinstance(value, int) else _one_line(str(value))


def _one_line(text: str) -> str:
    """Without what would move a terminal's cursor, or break the line: a venue's texts may hold anything."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "·" for each in text)
