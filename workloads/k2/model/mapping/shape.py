"""A mapping file: which columns a vendor's file has, and what becomes of them. docs/mappings.md is its manual.

Values of the YAML are taken as they are written (`00` stays two zeros, `N` a letter), so no table of codes can change on its
way. What a mapping says is checked here as far as it can be without a file.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from k2.model.errors import UserError
from k2.model.events import SIDES
from k2.model.id_scopes import ID_SPACE_PATTERN, MIDNIGHT, TIME_OF_DAY_PATTERN, IdScope
from k2.model.strftime import directives
from k2.model.times import parse_zone
from k2.model.topics import DataType

EXCHANGE_ZONE = "exchange"
TimeUnit = Literal["iso", "s", "ms", "us", "ns"]
_EXCHANGE_OR_ZONE = "exchange, or a name of the IANA's such as America/New_York"

Table = dict[str, str]
Side = Literal["BUY", "SELL", "SELL_SHORT", "UNKNOWN"]
assert get_args(Side) == SIDES


def _power_of_ten(unit: Decimal) -> Decimal:
    if not unit.is_finite() or unit <= 0 or unit != Decimal(1).scaleb(unit.adjusted()) or abs(unit.adjusted()) > 18:
        raise ValueError("expected a power of ten from 1e-18 to 1e18, such as 1e-9")
    return unit


def _zone(name: str) -> str:
    if name != EXCHANGE_ZONE:
        try:
            parse_zone(name)
        except UserError:
            raise ValueError(f"expected {_EXCHANGE_OR_ZONE}") from None
    return name


def _one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"expected a regular expression: {error}") from None
    if groups != 1:
        raise ValueError(f"expected a regular expression with one group, which has {groups}")
    return pattern


def _time_form(form: str) -> str:
    if form not in get_args(TimeUnit):
        if "%" not in form:
            raise ValueError(f"expected {', '.join(get_args(TimeUnit))}, or a form such as %Y%m%d %H:%M:%S.%f")
        try:
            directives(form)
        except UserError as error:
            raise ValueError(str(error)) from None
    return form


def _listed(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else (value,)


def _as_column(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


Unit = Annotated[Decimal, AfterValidator(_power_of_ten)]
Zone = Annotated[str, AfterValidator(_zone)]
NamePattern = Annotated[str, AfterValidator(_one_group)]
TimeForms = Annotated[
    tuple[Annotated[str, AfterValidator(_time_form)], ...], BeforeValidator(_listed), Field(min_length=1)
]
Columns = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class _Rule(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )


class ValueRule(_Rule):
    """Where a value comes from: a column (its name, or its number from 1), several of them joined, or a constant."""

    column: str | None = Field(default=None, description="The column's name, or its number from 1.")
    columns: Columns = Field(default=(), description="Several columns, joined; empty ones are left out.")
    joint: str = Field(default="-", description="What stands between joined values.")
    value: str | None = Field(default=None, description="The same value for all rows.")
    optional: bool = Field(default=False, description="A file without the column has no such value.")
    nulls: Columns = Field(default=(), description="Values that mean: none.")

    @property
    def sources(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return self.columns if self.column is None else (self.column,)

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [name for name in ("column", "columns", "value", "file_name") if getattr(self, name, None)]
        if len(given) != 1:
            raise ValueError(f"expected one of column, columns, value, fileName; found {' and '.join(given) or 'none'}")
        return self


class NameRule(ValueRule):
    """A symbol or a currency."""

    file_name: NamePattern | None = Field(
        default=None, description="What the group of this pattern finds in the file's name."
    )
    values: Table = Field(default_factory=dict, description="Value of the file → ours; others stay as they are.")
    upper: bool = Field(default=False, description="In upper case.")


class AmountRule(ValueRule):
    """A price or a quantity, exact."""

    unit: Unit = Field(
        default=Decimal(1), description="What 1 in the file is worth: 1e-4 for prices in units of 0.0001."
    )
    whole_unit: Unit | None = Field(
        default=None, description="The same for values without a point, where those with one are taken as they are."
    )


class SideRule(ValueRule):
    """Who was the aggressor."""

    values: dict[str, Side] = Field(
        default_factory=lambda: {side: side for side in SIDES}, description="Value of the file (in any case) → ours."
    )
    otherwise: Side | None = Field(
        default=None, description="Of values that the table lacks; left out, they are rejected."
    )


class ConditionsRule(ValueRule):
    """Condition codes."""

    separator: str = Field(
        default=" ;|", description="Each of its characters ends a code; empty: every character is one."
    )
    values: Table = Field(default_factory=dict, description="Code of the file → ours; others stay as they are.")


class OwnIdRule(ValueRule):
    """The source's own ids, what they are unique within, and which space of numbers they are of."""

    scope: IdScope = IdScope.SYMBOL
    day_starts: str = Field(default=MIDNIGHT, pattern=TIME_OF_DAY_PATTERN)
    space: str | None = Field(default=None, pattern=ID_SPACE_PATTERN)


class DateRule(_Rule):
    """The date of a time whose clock stands elsewhere."""

    column: str | None = None
    value: date | None = None
    file_name: NamePattern | None = None
    form: str = Field(default="%Y-%m-%d", description="How it is written.")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [name for name in ("column", "value", "file_name") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of column, value, fileName; found {' and '.join(given) or 'none'}")
        if not set("Yymbd") & set(directives(self.form)):
            raise ValueError(f"expected a form of a date, such as %Y%m%d; found {self.form!r}")
        return self


class ClockRule(_Rule):
    """The time of a day."""

    column: str
    form: str = Field(default="%H:%M:%S.%f", description="How it is written; s, ms, us or ns: counted from midnight.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.form not in {"s", "ms", "us", "ns"}:
            directives(self.form)
        return self


class TimeRule(_Rule):
    """When an event was: one column, or a date and a clock."""

    column: Columns = Field(default=(), description="The column; of several the first that has a value.")
    form: TimeForms = Field(
        default=("iso",),
        description="iso, s, ms, us, ns (since 1970), or as strftime writes it; of several units the digits tell which.",
    )
    date: Annotated[DateRule, BeforeValidator(_as_column)] | None = None
    clock: Annotated[ClockRule, BeforeValidator(_as_column)] | None = None
    zone: Zone = Field(default="UTC", description="Of times without an offset: exchange, or a zone's name.")
    nulls: Columns = Field(default=(), description="Values that mean: none.")

    @property
    def sources(self) -> tuple[str, ...]:
        """The columns that it reads."""
        if self.clock is None or self.date is None:
            return self.column
        return (self.date.column, self.clock.column) if self.date.column else (self.clock.column,)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.column) == (self.date is not None or self.clock is not None):
            raise ValueError("expected column, or date and clock")
        if (self.date is None) != (self.clock is None):
            raise ValueError("expected date and clock together")
        written = [form for form in self.form if "%" in form]
        if written and len(self.form) > 1:
            raise ValueError(f"expected {written[0]} alone: only units since 1970 and iso can be told apart")
        if written and not set("Yy") & set(directives(written[0])):
            raise ValueError("expected a form with a date; a date of its own is written under date, with clock")
        return self


Value = Annotated[ValueRule, BeforeValidator(_as_column)]
NameValue = Annotated[NameRule, BeforeValidator(_as_column)]
Amount = Annotated[AmountRule, BeforeValidator(_as_column)]


class FileMapping(_Rule):
    """How the files of one kind are written."""

    mapping: Literal["1"] = Field(description="The version of this language.")
    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,62}$", description="What the format is called.")
    version: int = Field(default=1, ge=1, description="Grows when the same files would give other events.")
    about: str = Field(default="", description="What these files are.")
    source: str = Field(default="", description="Where the vendor describes them.")
    data_type: DataType = Field(description="trades, quotes or reference_data.")
    header: Literal["present", "absent", "either"] = Field(
        default="present", description="Whether the first line names the columns; either: K2 looks."
    )
    columns: tuple[str, ...] = Field(default=(), description="The columns' names, where no header says them.")
    delimiter: str = Field(default=",", description="One character.")
    others: Literal["ignored", "refused"] = Field(
        default="ignored", description="Columns of a header that the mapping does not name."
    )
    only: dict[str, Columns] = Field(
        default_factory=dict, description="Column → its values in rows that count; others are passed over and counted."
    )
    nulls: Columns = Field(default=(), description="Values that mean none, in every column.")
    time: Annotated[TimeRule, BeforeValidator(_as_column)]
    symbol: NameValue | None = None
    currency: NameValue | None = None
    id: Annotated[OwnIdRule, BeforeValidator(_as_column)] | None = None
    sequence: Value | None = None
    price: Amount | None = None
    quantity: Amount | None = None
    side: Annotated[SideRule, BeforeValidator(_as_column)] | None = None
    conditions: Annotated[ConditionsRule, BeforeValidator(_as_column)] | None = None
    bid_price: Amount | None = None
    bid_quantity: Amount | None = None
    ask_price: Amount | None = None
    ask_quantity: Amount | None = None
    vendor: dict[str, Value] = Field(default_factory=dict, description="Key of vendor_data → where it comes from.")
    vendor_prefix: str = Field(default="", description="Columns that begin so are kept in vendor_data, without it.")

    of_trades: ClassVar[tuple[str, ...]] = ("price", "quantity", "side", "conditions")
    of_quotes: ClassVar[tuple[str, ...]] = ("bid_price", "bid_quantity", "ask_price", "ask_quantity")

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides on the events; names and words do not."""
        said = self.model_dump_json(exclude={"name", "version", "about", "source"}, exclude_defaults=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def rules(self) -> dict[str, ValueRule]:
        """Each value of an event that is given, by our name; those of `vendor_data` as `vendor.<key>`."""
        names = ("symbol", *self.of_trades, *self.of_quotes, "id", "currency", "sequence")
        given = {name: rule for name in names if (rule := getattr(self, name)) is not None}
        return given | {f"vendor.{key}": rule for key, rule in self.vendor.items()}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.data_type is DataType.REFERENCE_DATA:
            raise ValueError("dataType: expected trades or quotes; reference data is loaded by the format asx")
        if self.data_type is DataType.GAPS:
            raise ValueError("dataType: expected trades or quotes; gaps are told by the live feed that has them")
        needed, foreign = (
            (("price", "quantity"), self.of_quotes)
            if self.data_type is DataType.TRADES
            else (self.of_quotes, self.of_trades)
        )
        for name in needed:
            if getattr(self, name) is None:
                raise ValueError(f"{to_camel(name)} is missing: {self.data_type} need it")
        for name in foreign:
            if getattr(self, name) is not None:
                raise ValueError(f"{to_camel(name)} is no part of {self.data_type}")
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise ValueError("delimiter: expected one character, such as , or ; or a tab")
        for problem in self._unnamed():
            raise ValueError(problem)
        return self

    def _unnamed(self) -> Iterator[str]:
        """References to columns that the mapping itself shows not to exist."""
        if len(set(self.columns)) < len(self.columns):
            yield "columns: a name stands twice"
        if not self.columns:
            return
        for name in self.named_columns:
            if not name.isdigit() and name not in self.columns:
                near = difflib.get_close_matches(name, self.columns, n=1)
                yield f"column {name!r} is not among columns; expected {near[0] if near else 'one of ' + ', '.join(self.columns)}"

    @property
    def named_columns(self) -> tuple[str, ...]:
        """Every column that it reads, each once."""
        return self.columns_of(self.rules)

    def columns_of(self, rules: Mapping[str, ValueRule]) -> tuple[str, ...]:
        """Every column that these of its rules read, and its times, each once."""
        first = rules["symbol"].sources if "symbol" in rules else ()
        of_rules = (name for rule in rules.values() for name in rule.sources)
        return tuple(dict.fromkeys((*first, *self.time.sources, *of_rules, *self.only)))
