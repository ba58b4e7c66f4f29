"""What a file's first rows may be taken for, as a mapping to begin with: guesses by names and values, each beside what it was made of.

A named format that reads the rows goes before any guess. What was written is tried on the same rows, and what they became is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from k2.feeds.formats.containers import Content
from k2.feeds.formats.files import LineBlock, first_line
from k2.feeds.formats.layouts import FileLayout, Files, ParsedRows
from k2.feeds.formats.looks import Look, look_at, split
from k2.feeds.formats.mapped import MappedFiles
from k2.feeds.formats.mapped_times import WrittenTimes
from k2.feeds.formats.table_rows import header_of, table_rows
from k2.feeds.formats.tables import RowBlock, read_table
from k2.model.errors import UserError
from k2.model.exchanges import Exchange
from k2.model.mapping.named import SHIPPED, shipped, shipped_text
from k2.model.mapping.reading import parse_mappings
from k2.model.mapping.shape import FileMapping
from k2.model.times import DAY_SECONDS, iso

_HEAD_BYTES = 64 * 1024
_ROWS = 200
_SHOWN = 3

_NAMES: Mapping[str, Sequence[str]] = {
    "symbol": ("symbol", "sym", "ticker", "instrument", "code", "ric", "sym_root", "pair", "product_id", "security"),
    "bidPrice": ("bid_price", "bid", "bid_px", "best_bid", "bidprice"),
    "bidQuantity": ("bid_quantity", "bid_size", "bid_amount", "bid_qty", "bid_volume", "bidsize", "bid_sz"),
    "askPrice": ("ask_price", "ask", "ask_px", "best_ask", "askprice", "offer"),
    "askQuantity": ("ask_quantity", "ask_size", "ask_amount", "ask_qty", "ask_volume", "asksize", "ask_sz"),
    "price": ("price", "px", "last", "trade_price", "last_price", "tradeprice"),
    "quantity": ("quantity", "qty", "size", "volume", "amount", "shares", "tradingvolume", "last_size", "trade_size"),
    "side": (
        "side",
        "aggressor",
        "aggressor_side",
        "taker_side",
        "direction",
        "is_buyer_maker",
        "isbuyermaker",
        "sell",
    ),
    "id": ("id", "trade_id", "tradeid", "transactionid", "transaction_id", "agg_trade_id", "tid", "execution_id"),
    "conditions": ("conditions", "condition", "sale_condition", "tr_scond", "qualifiers"),
    "sequence": ("sequence", "sequence_number", "seq", "seqnum", "source_sequence", "tr_seqnum"),
    "currency": ("currency", "ccy"),
}
_TRADES = ("symbol", "price", "quantity", "side", "id", "conditions", "sequence", "currency")
_QUOTES = ("symbol", "bidPrice", "bidQuantity", "askPrice", "askQuantity", "sequence", "currency")
_TIME_NAMES = ("timestamp", "time", "ts_event", "datetime", "transact_time", "date", "ts", "exchange_timestamp")
_EPOCHS = {10: "s", 13: "ms", 16: "us", 19: "ns"}
_WHEN = (
    "%Y%m%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S.%f", "%m/%d/%Y %H:%M:%S.%f", "%d/%m/%Y %H:%M:%S.%f", "%Y%m%d%H%M%S%f",
)  # fmt: skip
_DATES = ("%Y-%m-%d", "%Y%m%d", "%m/%d/%Y", "%d/%m/%Y", "%d-%b-%Y")
_CLOCKS = ("%H:%M:%S.%f", "%H%M%S.%f")
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]{8,18}(?:Z|z|[+-][0-9]{2}:?[0-9]{2})?")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_SIDES = {
    "b": "BUY", "buy": "BUY", "bid": "BUY", "s": "SELL", "sell": "SELL", "a": "SELL", "ask": "SELL", "n": "UNKNOWN",
    "unknown": "UNKNOWN", "": "UNKNOWN",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Head:
    """The beginning of a file: how it looks, and its first rows as texts, by column."""

    content: Content
    look: Look
    columns: Mapping[str, Sequence[str]]
    block: LineBlock | RowBlock
    header: bytes

    def parsed(self, form: MappedFiles) -> ParsedRows:
        """The first rows, read by a format; a `UserError` where it is not theirs."""
        layout = form.layout(self.content.name, self.header, is_table=self.look.is_table)
        return layout.parse(self._with_columns_of(layout))

    def _with_columns_of(self, layout: FileLayout) -> LineBlock | RowBlock:
        if isinstance(self.block, LineBlock):
            return self.block
        taken = self.block.data.select(list(layout.places))
        return RowBlock(taken, 0, 0)


def sniffed(content: Content, market: Exchange) -> str:
    """A mapping to begin with, as YAML whose comments say what it was made of.

    Args:
        content: the file.
        market: whose files are tried; it decides on nothing but zones.

    Raises:
        UserError: the file cannot be read, or is empty.
    """
    head = _head(content)
    for name in SHIPPED:
        for mapping in shipped(name):
            if _fits(head, mapping, market):
                use = (
                    f"# `--format {name}` reads these rows ({mapping.data_type}): no mapping need be written. It says:"
                )
                return "\n".join([*_seen(head, {}), use, "", shipped_text(name)])
    guess = _Guess(head)
    text = "\n".join([*guess.lines(), ""])
    return "\n".join([*_seen(head, guess.taken), text, *_tried(head, text, market), ""])


def _head(content: Content) -> _Head:
    look = look_at(content)
    if not look.width:
        raise UserError(f"{content.name} is empty", expected="rows")
    names = look.names or [str(place + 1) for place in range(look.width)]
    if look.is_table:
        block = next(read_table(content, range(look.width), 0), None)
        if block is None:
            raise UserError(f"{content.name} has no rows", expected="rows")
        block = RowBlock(block.data.slice(0, _ROWS), 0, 0)
        rows = table_rows(block, names, names, ",")
        columns = {name: rows.columns[name].to_pylist() for name in names}
        return _Head(content, look, columns, block, header_of(block.data.schema.names))
    with content.opened() as file:
        data = file.read(_HEAD_BYTES)
    data = data[: data.rfind(b"\n") + 1] or data
    data = b"".join(data.splitlines(keepends=True)[: _ROWS + 1])
    lines = data.decode("utf-8", "replace").removeprefix("\ufeff").splitlines()[1 if look.names else 0 :]
    # Row by row: these are the first ones only.
    rows = [row for line in lines if len(row := split(line, look.delimiter)) == look.width]
    columns = {name: [row[place].strip() for row in rows] for place, name in enumerate(names)}
    return _Head(content, look, columns, LineBlock(data, 0, 1, at_end=True), first_line(content))


def _fits(head: _Head, mapping: FileMapping, market: Exchange) -> bool:
    """Whether a mapping reads all of the first rows, of whatever symbol they are."""
    for symbol in (None, "X"):
        try:
            parsed = head.parsed(MappedFiles(mapping, Files(mapping.data_type, market, symbol)))
        except UserError:
            continue
        return len(parsed.lines) > 0 and not parsed.rejected
    return False


def _seen(head: _Head, taken: Mapping[str, str]) -> Iterator[str]:
    kind = "Parquet or Arrow" if head.look.is_table else f"text, {head.look.delimiter!r} between values"
    named = "named" if head.look.names else "without a header, so numbered"
    yield f"# {head.content.name.name}: {kind}; {head.look.width} columns, {named}. The first values of each:"
    width = max(len(name) for name in head.columns)
    for name, values in head.columns.items():
        shown = ", ".join(value or "(empty)" for value in dict.fromkeys(values[:_SHOWN]))[:60]
        yield f"#   {name:<{width}}  {shown}{f'  -> {taken[name]}' if name in taken else ''}"


def _tried(head: _Head, text: str, market: Exchange) -> Iterator[str]:
    try:
        (mapping,) = parse_mappings(text, "The guess")
        parsed = head.parsed(MappedFiles(mapping, Files(mapping.data_type, market, None if mapping.symbol else "X")))
    except UserError as error:
        yield f"# It cannot be used yet. {error}"
        return
    rejected = parsed.rejected
    yield f"# Of the first {len(parsed.lines) + len(rejected)} rows it reads {len(parsed.lines)}."
    yield from (f"# Line {bad.line}: {bad.reason}" for bad in rejected[:_SHOWN])
    for row in range(min(_SHOWN, len(parsed.lines))):
        told = {name: column[row].as_py() for name, column in parsed.columns.items()}
        values = ", ".join(f"{name} {value}" for name, value in told.items() if value not in (None, [], ""))
        yield f"# {iso(int(parsed.times[row]))}: {values}"
    yield "# Look at times, sides and the size of prices; then try all rows: k2 load ... --mapping FILE --dry-run"


class _Guess:
    """What each column may be."""

    def __init__(self, head: _Head) -> None:
        self._head = head
        self.taken: dict[str, str] = {}
        self._lines: list[str] = []
        quotes = self._named("bidPrice") is not None and self._named("askPrice") is not None
        self._type = "quotes" if quotes else "trades"
        self._time()
        for field in _QUOTES if quotes else _TRADES:
            self._value(field)

    def lines(self) -> Iterator[str]:
        """The mapping, line by line."""
        name = re.sub(r"[^a-z0-9]+", "-", self._head.content.name.stem.lower()).strip("-")
        yield "mapping: 1"
        yield f"name: {name if name[:1].isalpha() else f'my-{name}'.rstrip('-')}"
        yield f"dataType: {self._type}"
        if not self._head.look.names:
            yield "header: absent"
        if self._head.look.delimiter != ",":
            yield f"delimiter: {_quoted(self._head.look.delimiter)}"
        yield from self._lines
        free = [name for name in self._head.columns if name not in self.taken]
        if free:
            yield f"# Not used: {', '.join(free)}. What is worth keeping goes under vendor: {{key: column}}."

    def _named(self, field: str) -> str | None:
        return next((name for name in _NAMES[field] if name in self._head.columns), None)

    def _free(self, fits: Callable[[Sequence[str]], object]) -> str | None:
        """The first column that is not taken and whose values all fit."""
        for name, values in self._head.columns.items():
            if name not in self.taken and any(values) and fits([value for value in values if value]):
                return name
        return None

    def _take(self, name: str, field: str, line: str) -> None:
        self.taken[name] = field
        self._lines.append(line)

    def _time(self) -> None:
        order = sorted(
            self._head.columns, key=lambda name: _TIME_NAMES.index(name) if name in _TIME_NAMES else len(_TIME_NAMES)
        )
        for name in order:
            form = _time_form(self._head.columns[name])
            if form is not None:
                zone = ", zone: exchange" if "%" in form and "z" not in form else ""
                self._take(name, "time", f"time: {{column: {_quoted(name)}, form: {_quoted(form)}{zone}}}")
                return
        clock = self._free(lambda values: _written(values, _CLOCKS))
        date = self._free(lambda values: _written(values, _DATES))
        if clock is None and not self._head.look.names:
            clock = self._free(_are_seconds_of_a_day)
        if clock is None:
            self._lines.append("# Which column is the time? time: {column: ..., form: ...}")
            return
        form = _written(self._head.columns[clock], _CLOCKS) or "s"
        said = 'value: 2000-01-01}  # the file does not say its date: write it, or fileName: "..."'
        if date is not None:
            said = f"column: {_quoted(date)}, form: {_quoted(_written(self._head.columns[date], _DATES) or '')}}}"
            self.taken[date] = "date"
        self._lines += ["time:", f"  date: {{{said}"]
        self._take(clock, "time of the day", f"  clock: {{column: {_quoted(clock)}, form: {_quoted(form)}}}")
        self._lines.append("  zone: exchange")

    def _value(self, field: str) -> None:
        name = self._named(field)
        if name is None and not self._head.look.names:
            name = self._by_values(field)
        if name is None or name in self.taken:
            if field in {"price", "quantity"}:
                self._lines.append(f"# Which column is the {field}? {field}: ...")
            if field == "symbol":
                self._lines.append("# No column says the symbol: give --symbol, or symbol: {fileName: ...}")
            return
        values = [value for value in self._head.columns[name] if value]
        line = f"{field}: {_quoted(name)}"
        if field == "side":
            table = ", ".join(f"{_quoted(value)}: {_side(value, name)}" for value in dict.fromkeys(values))
            line = (
                f"side: {{column: {_quoted(name)}, values: {{{table}}}, otherwise: UNKNOWN}}  # who was the aggressor?"
            )
        elif (
            field.lower().endswith("price") and values and all(len(value) >= 10 and value.isdigit() for value in values)
        ):
            line = f"{field}: {{column: {_quoted(name)}, unit: 1e-9}}  # so many digits are a count of something small"
        elif field == "conditions" and any("," in value for value in values):
            line = f'conditions: {{column: {_quoted(name)}, separator: ","}}'
        self._take(name, field, line)

    def _by_values(self, field: str) -> str | None:
        if field in {"price", "quantity"}:
            pointed = self._free(lambda values: all(map(_NUMBER.fullmatch, values)) and any("." in v for v in values))
            return pointed or self._free(lambda values: all(map(_NUMBER.fullmatch, values)))
        if field == "side":
            return self._free(lambda values: {value.lower() for value in values} <= {*_SIDES, "true", "false"})
        return None


def _time_form(values: Sequence[str]) -> str | None:
    given = [value for value in values if value]
    if not given:
        return None
    if all(map(_ISO.fullmatch, given)):
        return "iso"
    digits = {len(value) if value.isdigit() else 0 for value in given}
    if len(digits) == 1 and (unit := _EPOCHS.get(digits.pop())):
        return unit
    return _written(given, _WHEN)


def _are_seconds_of_a_day(values: Sequence[str]) -> bool:
    return all(_NUMBER.fullmatch(value) and "." in value and 0 <= float(value) < DAY_SECONDS for value in values)


def _written(values: Sequence[str], forms: Sequence[str]) -> str | None:
    given = pa.array([value for value in values if value], pa.string())
    return next((form for form in forms if len(given) and WrittenTimes(given, form).ok.all()), None)


def _side(value: str, name: str) -> str:
    lower = value.lower()
    if lower in {"true", "false"}:
        # Who made the price was the buyer, or the taker sold: the aggressor sold.
        return "SELL" if (lower == "true") == (name not in {"buy", "is_buy"}) else "BUY"
    return _SIDES.get(lower, "UNKNOWN")


def _quoted(text: str) -> str:
    plain = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_. -]*", text)
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") + '"'
