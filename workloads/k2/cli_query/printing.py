"""Answers on stdout, as a table, JSON or CSV: rows while they come, in memory that does not grow with their number."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

import typer

from k2.cli_query.options import Output
from k2.cli_query.waiting import Waiting

if TYPE_CHECKING:
    import pyarrow as pa

    from k2.client.answer import Answer

_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


def say(text: str) -> None:
    """A message; stdout is for data."""
    print(text, file=sys.stderr)


def write(data: bytes | memoryview) -> None:
    """Data to stdout, at once: who reads a pipe does not wait for a buffer to be full."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # `| head` has read enough: that is a good end. The interpreter must not try to flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def coloured() -> bool:
    """Whether colours are wanted: a terminal that knows them, and nobody said no (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_rows(answer: Answer, output: Output, waiting: Waiting, shown: Sequence[str] | None = None) -> None:
    """All rows of an answer while they come; then, on stderr, what is to be known of them.

    Args:
        answer: is read to its end.
        output: a table shows the columns of `shown`, the other forms have all.
        waiting: is told how far it is.
        shown: columns; None: all.
    """
    if output is Output.TABLE:
        names = [name for name in answer.schema.names if shown is None or name in shown]
        if shown is not None:
            names.sort(key=list(shown).index)
        pieces = _table_of(answer, names, waiting)
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


def remarks(envelope: dict[str, Any]) -> None:
    """Say why there is nothing, or not all."""
    if envelope.get("note"):
        say(str(envelope["note"]))
    elif envelope.get("more"):
        say(f"the first {envelope['count']:,} only: there are more (--limit)")
    if envelope.get("incomplete"):
        say(f"incomplete: {envelope['incomplete']}")


def print_records(
    records: Sequence[dict[str, Any]], output: Output, *, whole: dict[str, Any], columns: Sequence[str]
) -> None:
    """Print objects of the API: JSON as the API gave it, CSV with every member, a table with the chosen ones."""
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
    else:
        amounts = {"open", "high", "low", "close", "volume", "vwap"}
        print_table(columns, ([r.get(name) for name in columns] for r in records), decimals=amounts)


def print_table(
    names: Sequence[str], rows: Iterable[Sequence[object]], *, decimals: AbstractSet[str] = frozenset()
) -> None:
    """Print a table, as wide as it wants to be: a number cut to fit a narrow terminal would be another number."""
    values = [list(row) for row in rows]
    right = {
        name for number, name in enumerate(names) if name in decimals or any(isinstance(r[number], int) for r in values)
    }
    cells = [[_cell(value, name in decimals) for name, value in zip(names, row, strict=True)] for row in values]
    write(_lines(names, cells, right, [0] * len(names), header=True))


def _table_of(answer: Answer, names: Sequence[str], waiting: Waiting) -> Iterator[bytes]:
    """Batch by batch; columns grow when a later batch needs it, but the lines before stay as they are."""
    import pyarrow as pa

    from k2.forms.text_columns import plain_text

    kinds = {name: answer.schema.field(name).type for name in names}
    decimals = {name for name, kind in kinds.items() if pa.types.is_decimal(kind)}
    right = decimals | {name for name, kind in kinds.items() if pa.types.is_integer(kind)}
    widths = [0] * len(names)
    begun = False
    for batch in _counted(answer, waiting):
        columns = [plain_text(batch.column(name)).to_pylist() for name in names]
        texts = zip(*columns, strict=True)
        cells = [[_cell(value, name in decimals) for name, value in zip(names, row, strict=True)] for row in texts]
        yield _lines(names, cells, right, widths, header=not begun)
        begun = True
    if not begun:
        yield _lines(names, [], right, widths, header=True)


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
    for number in range(len(names)):
        widths[number] = max([widths[number], *(cell_len(row[number]) for row in rows)])
    lines: list[str] = []
    for row in rows:
        padded: list[str] = []
        for name, text, width in zip(names, row, widths, strict=True):
            space = " " * (width - cell_len(text))
            padded.append(space + text if name in right else text + space)
        lines.append("  ".join(padded))
    if header and coloured():
        lines[0] = f"{_BOLD}{lines[0]}{_PLAIN}"
    return "".join(f"{line}\n" for line in lines).encode()


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
