"""Files as a finite source: all files of one load, in order, as chunks of events with positions (bytes of text, rows of columns)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from k2.feeds.formats.containers import Content, contents
from k2.feeds.formats.files import BLOCK_BYTES, LineBlock, SourceFile, first_line, read_blocks
from k2.feeds.formats.layouts import Assembler, FileFormat, FileLayout, Files, ParsedRows
from k2.feeds.formats.occurrences import Occurrences
from k2.feeds.formats.registry import file_format, own_format
from k2.feeds.formats.table_rows import header_of
from k2.feeds.formats.tables import RowBlock, read_table
from k2.feeds.load.chunks import Chunk, Position
from k2.feeds.load.gathering import gathered
from k2.feeds.load.objects import base_of, store_for
from k2.feeds.load.opening import Opening
from k2.feeds.load.uris import local_files
from k2.model.errors import UserError
from k2.model.events import Decimals
from k2.model.exchanges import Exchange, exchange, shipped
from k2.model.id_scopes import MIDNIGHT, IdRule
from k2.model.mapping.named import GENERIC
from k2.model.sources import CsvSource

_HOPELESS = 20  # so many rows at a file's start, and not one of them usable: another kind of file

Clock = Callable[[], int]


def now_micros() -> int:
    """This moment, UTC microseconds since 1970."""
    return time.time_ns() // 1000


class CsvFiles:
    """The files of one load (a `FiniteSource`). Identical rows are counted over all of them, in the order given.

    Args:
        paths: the files.
        form: how they are read.
        assembler: makes whole events of their rows.
        names: what the files are called in messages, when not by their paths.
        allow_empty: an empty file is one without rows, instead of a `UserError`.
        block_bytes: about how much is parsed at a time.
        clock: microseconds since 1970 now, for `ingestion_timestamp`.

    Raises:
        UserError: a file is missing, empty, binary, or its header is not of the format; nothing was read of any then.
    """

    unit = "bytes"

    def __init__(
        self,
        paths: Sequence[Path],
        form: FileFormat,
        assembler: Assembler,
        *,
        names: Sequence[str] | None = None,
        symbol: str | None = None,
        allow_empty: bool = False,
        block_bytes: int = BLOCK_BYTES,
        clock: Clock = now_micros,
    ) -> None:
        if not paths:
            raise UserError("There are no files to load", expected="at least one")
        called = list(names) if names is not None else [str(path) for path in paths]
        packed = [(name, content) for name, path in zip(called, paths, strict=True) for content in _contents(path)]
        self.names = [f"{name}/{content.member}" if content.member else name for name, content in packed]
        self._form = form
        self._assembler = assembler
        self._block_bytes = block_bytes
        self._clock = clock
        self._files = [SourceFile.examine(content, allow_empty=allow_empty) for _, content in packed]
        self._layouts = [self._layout(file) for file in self._files]
        self.headers = {i: layout.header for i, layout in enumerate(self._layouts) if layout and layout.header}
        kinds = [layout.kind if layout else "" for layout in self._layouts]
        self.parts = [f"{file.sha256} {kind}".rstrip() for file, kind in zip(self._files, kinds, strict=True)]
        self._refuse_doubles()
        self.size = sum(file.size for file in self._files)
        self.options = {
            "format": form.name,
            "version": str(form.version),
            "data_type": str(form.data_type),
            "exchange": assembler.exchange.code,
            "asset_class": assembler.asset_class,
            "currency": assembler.currency,
            "symbol": symbol or "",
            **assembler.ids.options,
            **form.options,
            **_zone_option(assembler.exchange),
            # What all loads had before there were others is not said: their ledgers stay theirs.
            **({} if assembler.decimals is Decimals.STANDARD else {"decimals": str(assembler.decimals)}),
        }

    def parsed(self) -> Iterator[ParsedRows]:
        """The rows of all files as columns, before they are events."""
        for file, layout in zip(self._files, self._layouts, strict=True):
            if layout is not None:
                for block in self._blocks(file, layout):
                    yield layout.parse(block, self._assembler.decimals)

    def chunks(self) -> Iterator[Chunk]:
        """Chunks of about one block each, from the first file's first line."""
        with Occurrences() as occurrences:
            for part, (file, layout) in enumerate(zip(self._files, self._layouts, strict=True)):
                if layout is None:
                    continue
                for block in self._blocks(file, layout):
                    parsed = layout.parse(block, self._assembler.decimals)
                    if block.start == 0:
                        self._refuse_hopeless(file.path, parsed)
                    batch = self._assembler.assemble(parsed, occurrences, self._clock())
                    yield Chunk(
                        end=Position(part, block.end),
                        events=((self._form.data_type, batch),) if batch.num_rows else (),
                        progress=block.size,
                        rejected=parsed.rejected,
                        blank=parsed.blank,
                        passed_over=parsed.passed_over,
                        identical=occurrences.surplus,
                        out_of_order=occurrences.out_of_order,
                    )

    def _layout(self, file: SourceFile) -> FileLayout | None:
        if not file.size:
            return None
        if file.table is not None:
            return self._form.layout(file.path, header_of(file.table), is_table=True)
        return self._form.layout(file.path, first_line(file.content))

    def _blocks(self, file: SourceFile, layout: FileLayout) -> Iterator[LineBlock | RowBlock]:
        if file.table is None:
            yield from read_blocks(file, self._block_bytes)
            return
        yield from read_table(file.content, layout.places, file.size)
        file.verify(file.sha256)

    def _refuse_doubles(self) -> None:
        seen: dict[str, SourceFile] = {}
        for file, part in zip(self._files, self.parts, strict=True):
            other = seen.setdefault(part, file)
            if other is not file and file.size:
                raise UserError(
                    "Two files of the load have the same content",
                    found=f"{other.path} and {file.path}",
                    expected="each file once: its rows would count as repeats that happened",
                )

    def _refuse_hopeless(self, path: Path, parsed: ParsedRows) -> None:
        if len(parsed.lines) or len(parsed.rejected) < _HOPELESS:
            return
        first = parsed.rejected[0]
        raise UserError(
            f"{path} does not look like {self._form.data_type} of format {self._form.name}",
            found=f"{len(parsed.rejected):,} lines of which none can be used; line {first.line}: {first.reason}",
            expected="the columns described in docs/feeds.md",
            remedy="Check data type and --format; nothing was loaded",
        )


def _zone_option(market: Exchange) -> dict[str, str]:
    """Rows read by another time zone are other events; that of an exchange that ships is the one all loads had."""
    known = shipped().get(market.code)
    return {} if known is not None and known.time_zone == market.time_zone else {"time_zone": market.time_zone}


def _contents(path: Path) -> list[Content]:
    try:
        return contents(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read", found=error.strerror, expected="a readable file", remedy="Check the path"
        ) from error


def ids_of(form: FileFormat, scope: str | None, day_starts: str | None, space: str | None) -> IdRule:
    """What the files' own ids are unique within: what whoever loads them says, and for the rest what the format does.

    Raises:
        UserError: see `IdRule.of`.
    """
    if day_starts is None and form.ids.scope.is_by_day and scope in {None, form.ids.scope}:
        day_starts = f"{form.ids.day_starts:%H:%M}"
    return IdRule.of(scope or form.ids.scope, day_starts, space or form.ids.space or None)


def opened(opening: Opening) -> CsvFiles:
    """The files of a feed's source, fetched where they are far."""
    config, source = opening.config, opening.config.source
    assert isinstance(source, CsvSource)
    market = exchange(config.exchange)
    data_type = source.data_type or config.streams[0].data_type
    store = store_for([*source.uris, source.mapping or ""], opening.settings)
    brought = local_files(source.uris, opening.settings.source_dir, opening.folder, store)
    found = gathered(list(zip(map(base_of, source.uris), brought, strict=True)), data_type)
    paths, names = [path for _, path in found], [name for name, _ in found]
    files = Files(data_type, market, source.symbol, config.currency, paths, prices=config.prices)
    if source.mapping is not None:
        (mapping,) = local_files([source.mapping], opening.settings.source_dir, opening.folder / "mapping", store)
        form = own_format(mapping, files)
    else:
        form = file_format(source.format or GENERIC, files)
    ids = ids_of(form, source.id_scope, None if source.day_starts == MIDNIGHT else source.day_starts, source.id_space)
    decimals = config.decimals.get(data_type, Decimals.STANDARD)
    assembler = Assembler(data_type, market, config.currency, str(config.asset_class), ids, decimals)
    return CsvFiles(paths, form, assembler, names=names, symbol=source.symbol)
