"""What is written of exchanges: the entries that ship with K2, and those of a person, which add others and change these.

A person's are a section of `platform.yaml` and a file of their own; both have the form of `exchanges.yaml` beside this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel

from k2.model.calendar_entries import CalendarEntry, ZoneName
from k2.model.errors import UserError
from k2.model.prints import PrintFilter
from k2.model.topics import AssetClass

SHIPPED = Path(__file__).with_name("exchanges.yaml")
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]"
CODE_PATTERN = r"^[A-Z0-9][A-Z0-9-]{0,31}$"
CURRENCY_PATTERN = r"^[A-Z0-9]{2,10}$"


class ProfileEntry(BaseModel):
    """Which of an exchange's trades count, by their condition codes; all that is said holds together."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    conditions: tuple[str | int, ...] = Field(
        default=(), description="A trade has at least one of these condition codes."
    )
    exclude_conditions: tuple[str | int, ...] = Field(default=(), description="It has none of these condition codes.")

    @model_validator(mode="after")
    def _usable(self) -> Self:
        try:
            usable = self.filter
        except UserError as error:
            raise ValueError(str(error)) from None
        if not usable:
            raise ValueError("conditions or excludeConditions, of a profile that leaves trades out")
        return self

    @property
    def filter(self) -> PrintFilter:
        """As a filter; a `UserError` where a code can be none."""
        return PrintFilter(tuple(map(str, self.conditions)), tuple(map(str, self.exclude_conditions)))


ProfileName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$", description="Name of a profile, not `none`.")]


class ExchangeEntry(BaseModel):
    """What is said of one exchange. Of one that ships, what is left out stays as it ships."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    name: str | None = Field(default=None, min_length=1, description="Its name; default: the code.")
    time_zone: ZoneName | None = Field(default=None, description="Its time zone, such as Australia/Sydney.")
    currency: str | None = Field(
        default=None, pattern=CURRENCY_PATTERN, description="Currency of its prices, such as AUD."
    )
    asset_class: AssetClass | None = Field(
        default=None, description="equities, crypto, futures, options or fx: a part of its topics' names."
    )
    hours: str | None = Field(
        default=None,
        pattern=f"^{_TIME}-{_TIME}$",
        description="Usual hours of its main session, by its clocks, such as 09:30-16:00; default: round the clock.",
    )
    calendar: str | None = Field(
        default=None,
        description="Its calendar: one that ships, such as XNYS, or one of `calendars`; default: its hours from Monday to Friday, or "
        "every day where it has none.",
    )
    symbol_calendars: dict[str, str] | None = Field(
        default=None,
        description="Calendars of some of its symbols: pattern (`ES*`) to calendar; the first that fits counts.",
    )
    profiles: dict[ProfileName, ProfileEntry] | None = Field(
        default=None, description="Which trades count, by name: questions ask for one with `profile`."
    )
    default_profile: str | None = Field(
        default=None,
        description="The profile that questions about the regular session have unless they ask for another; default: none.",
    )

    @field_validator("profiles")
    @classmethod
    def _named(cls, profiles: dict[str, ProfileEntry] | None) -> dict[str, ProfileEntry] | None:
        if "none" in (profiles or {}):
            raise ValueError("another name than none, which questions say for no profile")
        return profiles

    def over(self, other: ExchangeEntry | None) -> ExchangeEntry:
        """The other with what is said here in its place."""
        return self if other is None else other.model_copy(update={name: getattr(self, name) for name in self.said})

    @property
    def said(self) -> set[str]:
        """The fields that were given."""
        return self.model_fields_set

    @property
    def usual(self) -> tuple[time, time] | None:
        """The usual hours, start inclusive and end exclusive; None: round the clock."""
        if self.hours is None:
            return None
        start, end = self.hours.split("-")
        return time.fromisoformat(start), time.fromisoformat(end)


Code = Annotated[str, Field(pattern=CODE_PATTERN, description="Code of an exchange, in upper case.")]


class ExchangesDocument(BaseModel):
    """Exchanges by code: what ships, or what a person says beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exchanges: dict[Code, ExchangeEntry] = Field(default={}, description="Exchanges by code.")
    calendars: dict[str, CalendarEntry] = Field(default={}, description="Calendars by name.")

    @classmethod
    def read(cls, path: Path) -> ExchangesDocument:
        """Read a file; what is wrong in it is a `UserError` that names the field."""
        import yaml  # a command that needs no exchange starts without it

        # In C where PyYAML has it: a command's start waits for it.
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            found: object = yaml.load(path.read_bytes(), loader)  # noqa: S506 - a safe loader
        except OSError as error:
            raise UserError(f"{path} cannot be read", found=str(error), expected="a file of exchanges") from error
        except yaml.YAMLError as error:
            raise UserError(f"{path} is not YAML", found=str(error), expected="a file of exchanges") from error
        return cls.checked({} if found is None else found, f"{path} is wrong at")

    @classmethod
    def checked(cls, found: object, wrong_at: str) -> ExchangesDocument:
        """Plain values as the document; what is wrong is a `UserError` that begins so and names the field."""
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(
                f"{wrong_at} {'.'.join(map(str, first['loc'])) or 'its top'}",
                found=first.get("input"),
                expected=re.sub("^Value error, ", "", first["msg"]),
                remedy="docs/exchanges.md has an example",
            ) from error

    def over(self, other: ExchangesDocument) -> ExchangesDocument:
        """The other with what is said here in its place, field by field."""
        found = dict(other.exchanges)
        for code, entry in self.exchanges.items():
            found[code] = entry.over(found.get(code))
        return ExchangesDocument(exchanges=found, calendars={**other.calendars, **self.calendars})

    def as_json(self) -> Mapping[str, Any]:
        """What was said and no more, as plain values: the inverse of reading. Empty where nothing was."""
        said = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return {section: entries for section, entries in said.items() if entries}
