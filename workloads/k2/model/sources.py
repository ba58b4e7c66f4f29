"""Where a feed's events come from: what a person writes under `spec.source`, and what a workload is told. A class a kind.

The resource has a field for each class, by its `kind`; the plan passes what is written there on; `k2.feeds.sources` names what
reads it. So a new kind is a class here, a module that reads it, and its line there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, create_model
from pydantic.alias_generators import to_camel

from k2.model.id_scopes import ID_SPACE_PATTERN, MIDNIGHT, TIME_OF_DAY_PATTERN, IdScope
from k2.model.mapping.named import FormatName, names_symbols, shipped
from k2.model.topics import DataType
from k2.model.venues import NUMBERED, VenueName

NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
SYMBOL_PATTERN = r"^[A-Z0-9][A-Z0-9.\-/]{0,31}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=63)]
OBJECT_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""Of objects that K2 does not name itself: whatever Kubernetes takes for a ConfigMap or a claim."""
ObjectName = Annotated[str, Field(pattern=OBJECT_NAME_PATTERN, max_length=253)]
Symbol = Annotated[str, Field(pattern=SYMBOL_PATTERN)]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a source, which no field says by itself: `path` is below the source, such as `uris[0]`."""

    path: str
    what: str
    expected: str
    found: object = None


class SourceConfig(BaseModel):
    """One kind of source. In a resource its fields are camelCase, in Python and for a workload snake_case."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    kind: ClassVar[str]
    """Its name under `spec.source`."""
    says: ClassVar[str]
    """One sentence about it, for `kubectl explain`."""

    @property
    def is_live(self) -> bool:
        """Whether it has no end: a producer that runs, and not a load that is done some time."""
        return True

    @property
    def mounts(self) -> Volume | None:
        """The volume that it reads."""
        return None

    @property
    def hot(self) -> bool:
        """Whether several producers may hear it at once: they give the same events with the same ids."""
        return False

    def numbers(self, data_type: DataType) -> bool | None:  # noqa: ARG002 - some kinds know
        """Whether each symbol's events of that type are numbered without holes; None: the feed's author says it."""
        return None

    def problems(self, data_types: Sequence[DataType]) -> Iterator[Problem]:  # noqa: ARG002 - some kinds look
        """What is wrong with it, in a feed of these data types."""
        yield from ()

    def resolved(self, data_types: Sequence[DataType]) -> Self:  # noqa: ARG002 - some kinds look
        """The same with what the feed's data types say; it has no problems."""
        return self


class SyntheticSource(SourceConfig):
    """A seeded, deterministic market. The same settings give the same events, to the last byte."""

    kind: ClassVar[str] = "synthetic"
    says: ClassVar[str] = "A made-up market, for demonstrations and tests."

    seed: int = Field(default=1, ge=0, description="Seed of the random numbers. Another seed is another market.")
    symbols: tuple[Symbol, ...] = Field(
        default=("ACME", "GLOBEX", "INITECH", "STARK", "WAYNE"),
        min_length=1,
        max_length=10_000,
        description="Symbols that are traded.",
    )
    start: date = Field(description="First trading date, in the exchange's calendar (weekends are skipped).")
    days: int = Field(
        default=1, ge=0, le=10_000, description="Trading dates to make. 0: go on for ever, from now, in real time."
    )
    trades_per_day: int = Field(
        default=100_000, ge=1, le=1_000_000_000, description="Trades of all symbols together in a trading date."
    )
    quotes_per_trade: float = Field(default=2.0, ge=0, le=1000, description="Quotes for each trade, on average.")
    events_per_second: float = Field(
        default=0, ge=0, description="Trades and quotes together in a second. 0: as fast as possible."
    )

    @property
    def is_live(self) -> bool:
        """See `SourceConfig`."""
        return self.days == 0


class Volume(BaseModel):
    """Where files come from. Exactly one; on one machine a claim is the folder `volumes/<name>` of the data directory."""

    model_config = SourceConfig.model_config

    claim_name: ObjectName | None = Field(default=None, description="A PersistentVolumeClaim of the same namespace.")
    config_map_name: ObjectName | None = Field(default=None, description="A ConfigMap of the same namespace.")


class CsvSource(SourceConfig):
    """Files of one exchange and data type; each is read once."""

    kind: ClassVar[str] = "csv"
    says: ClassVar[str] = "Files."

    format: FormatName | None = Field(
        default=None, description="How the files are written; docs/feeds.md describes each. Or a mapping says it."
    )
    # As below: a load whose files have a named format is told nothing of mappings.
    mapping: Annotated[str, Field(min_length=1, max_length=1024)] | None = Field(
        default=None,
        exclude_if=lambda uri: uri is None,
        description="URI of a mapping file that says how the files are written (docs/mappings.md), in place of format.",
    )
    uris: tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...] = Field(
        min_length=1, max_length=1000, description="`s3://…`, `https://…`, or `file:…` relative to the volume."
    )
    data_type: DataType | None = Field(
        default=None, description="What the files hold. May be left out when the feed has one stream."
    )
    symbol: Symbol | None = Field(default=None, description="Of all rows, for formats that do not name it (asx).")
    id_scope: IdScope | None = Field(
        default=None,
        description="What the source's own ids are unique within: each symbol for good, a day, the whole venue, or both. "
        "Default: as the format says, symbol for most.",
    )
    day_starts: Annotated[str, Field(pattern=TIME_OF_DAY_PATTERN)] = Field(
        default=MIDNIGHT, description="When a day of idScope begins, by the exchange's clocks."
    )
    # A load that is done is known by what it is told: one that says no space must be the one that it was.
    id_space: Annotated[str, Field(pattern=ID_SPACE_PATTERN)] | None = Field(
        default=None,
        exclude_if=lambda space: space is None,
        description="Which of the venue's number spaces the ids are of, where it has several: aggregate, block. "
        "The same id in another space is another event.",
    )
    # How the files come to the workload, and nothing that it is told.
    volume: Volume | None = Field(
        default=None, exclude=True, description="The volume that `file:` URIs are relative to."
    )

    @property
    def is_live(self) -> bool:
        """See `SourceConfig`."""
        return False

    @property
    def mounts(self) -> Volume | None:
        """See `SourceConfig`."""
        return self.volume

    def resolved(self, data_types: Sequence[DataType]) -> Self:
        """See `SourceConfig`. What the format says of its ids is said, where the feed does not."""
        told: dict[str, Any] = {"data_type": self.data_type or data_types[0]}
        if self.format is not None:
            rule = next((each.id for each in shipped(self.format) if each.data_type == told["data_type"]), None)
            of_format = IdScope.SYMBOL if rule is None else rule.scope
            told |= {"id_scope": self.id_scope or of_format}
            told |= {"id_space": self.id_space or (None if rule is None else rule.space)}
        return self.model_copy(update=told)

    def problems(self, data_types: Sequence[DataType]) -> Iterator[Problem]:
        """See `SourceConfig`."""
        streams = f"one of the feed's streams: {', '.join(data_types)}"
        if self.data_type is None and len(data_types) > 1:
            yield Problem("dataType", "missing", streams)
        if self.data_type is not None and self.data_type not in data_types:
            yield Problem("dataType", "not a stream", streams, self.data_type)
        yield from self._format_problems()
        if self.day_starts != MIDNIGHT and not (self.id_scope or IdScope.SYMBOL).is_by_day:
            expected = f"idScope {IdScope.CIVIL_DAY} or {IdScope.VENUE_CIVIL_DAY} beside it"
            yield Problem("dayStarts", "without a scope by day", expected, self.day_starts)
        of_files = [(f"uris[{index}]", uri) for index, uri in enumerate(self.uris)]
        for path, uri in [*of_files, *([("mapping", self.mapping)] if self.mapping else [])]:
            if not uri.startswith(("s3://", "https://", "file:")):
                yield Problem(path, "unknown kind of URI", "s3://, https:// or file:", uri)
            elif uri.startswith("file:") and (uri.startswith("file:/") or ".." in uri.removeprefix("file:").split("/")):
                yield Problem(path, "not a relative path", "file: and a path relative to the volume, without ..", uri)
            elif uri.startswith("file:") and self.volume is None:
                yield Problem("volume", "missing", "the volume that file: URIs are relative to")
        if self.volume is not None and (self.volume.claim_name is None) == (self.volume.config_map_name is None):
            yield Problem("volume", "not one volume", "exactly one of claimName, configMapName")

    def _format_problems(self) -> Iterator[Problem]:
        if (self.format is None) == (self.mapping is None):
            yield Problem("format", "not one description of the files", "exactly one of format, mapping")
        if self.format is None:
            return
        if not names_symbols(self.format) and self.symbol is None:
            yield Problem("symbol", "missing", f"the symbol of all rows: {self.format} files do not name it")
        kinds = [mapping.data_type for mapping in shipped(self.format)]
        if kinds and self.data_type is not None and self.data_type not in kinds:
            yield Problem("dataType", f"not what {self.format} files hold", " or ".join(kinds), self.data_type)


class SymbolSelection(BaseModel):
    """Which symbols of a venue's listing are heard; looked at again every five minutes."""

    model_config = SourceConfig.model_config

    quote: str | None = Field(default=None, max_length=16, description="The currency of their prices, such as USDT.")
    status: str | None = Field(
        default=None, max_length=32, description="In the venue's words, such as TRADING. Left out: those that trade."
    )
    limit: int = Field(default=200, ge=1, le=5_000, description="At most so many: the most traded where it is known.")


def _form_of_symbols(value: object) -> str:
    return "(selection)" if isinstance(value, dict | SymbolSelection) else "(names)"


SymbolNames = Annotated[
    Annotated[tuple[Symbol, ...], Field(min_length=1, max_length=5_000), Tag("(names)")]
    | Annotated[SymbolSelection, Tag("(selection)")],
    Discriminator(_form_of_symbols),
]
"""Symbols by name, or what they must be like. The tags stand in places of errors, and nobody is told them."""


class VenueUrls(BaseModel):
    """Other addresses than the venue's own."""

    model_config = SourceConfig.model_config

    stream: Annotated[str, Field(pattern=r"^wss://[^/?#]+$", max_length=253)] | None = Field(
        default=None, description="Of the WebSockets: wss://host:port."
    )
    rest: Annotated[str, Field(pattern=r"^https://[^/?#]+$", max_length=253)] | None = Field(
        default=None, description="Of the REST interface: https://host:port."
    )


class VenueSource(SourceConfig):
    """An exchange's public market data, as it happens."""

    kind: ClassVar[str] = "live"
    says: ClassVar[str] = "The public feed of an exchange, without an end."

    venue: VenueName = Field(description="Which exchange.")
    symbols: SymbolNames = Field(
        description="Symbols as the venue writes them: [BTCUSDT, ETHUSDT]. Or which of its listing: {quote: USDT, status: "
        "TRADING, limit: 200}, followed as it changes.",
    )
    urls: VenueUrls = Field(default=VenueUrls(), description="Other addresses than the venue's own.")
    ca_file: Annotated[str, Field(min_length=1, max_length=1024)] | None = Field(
        default=None,
        description="PEM file of the authorities that are trusted, in place of the system's; a path relative to the volume, or "
        "on one machine to the working directory. Certificates are always verified.",
    )
    proxy: Annotated[str, Field(pattern=r"^https?://[^/?#@]+$", max_length=253)] | None = Field(
        default=None, description="URL of a proxy: http://host:port. Left out: what HTTPS_PROXY says."
    )
    # How the file comes to the workload, and nothing that it is told.
    volume: Volume | None = Field(default=None, exclude=True, description="The volume that caFile is relative to.")

    @property
    def mounts(self) -> Volume | None:
        """See `SourceConfig`."""
        return self.volume

    @property
    def hot(self) -> bool:
        """See `SourceConfig`."""
        return True

    def numbers(self, data_type: DataType) -> bool | None:
        """See `SourceConfig`. Quotes are numbered with holes, or not at all."""
        return data_type is DataType.TRADES and NUMBERED[self.venue]

    def problems(self, data_types: Sequence[DataType]) -> Iterator[Problem]:
        """See `SourceConfig`."""
        if DataType.REFERENCE_DATA in data_types:
            yield Problem("venue", "does not send reference_data", "streams of trades and quotes", self.venue)
        if not isinstance(self.symbols, SymbolSelection):
            twice = sorted({symbol for symbol in self.symbols if self.symbols.count(symbol) > 1})
            if twice:
                yield Problem("symbols", "a symbol twice", "each once", ", ".join(twice[:3]))
        if self.volume is not None:
            if (self.volume.claim_name is None) == (self.volume.config_map_name is None):
                yield Problem("volume", "not one volume", "exactly one of claimName, configMapName")
            if self.ca_file is None:
                yield Problem("volume", "without caFile", "the file of the volume that is meant")


SOURCES: dict[str, type[SourceConfig]] = {each.kind: each for each in (CsvSource, SyntheticSource, VenueSource)}
"""Every kind, in the order in which people are told of them."""


def _told(source: type[SourceConfig]) -> type[SourceConfig]:
    """The class with its kind as a field, by which a workload's configuration tells one from another."""
    kind: Any = (Literal[source.kind], Field(default=source.kind, description="Which source this is."))
    return create_model(source.__name__, __base__=source, __doc__=source.__doc__, type=kind)


TOLD: dict[str, type[SourceConfig]] = {kind: _told(source) for kind, source in SOURCES.items()}
"""What a workload's configuration holds, by kind: see `told`."""


def told(source: SourceConfig) -> SourceConfig:
    """A source as a workload's configuration holds it."""
    return TOLD[source.kind].model_validate(source.model_dump(mode="json"))
