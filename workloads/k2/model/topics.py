"""Names of topics, subjects and consumer groups: the one builder for `market.{asset_class}.{data_type}.{exchange}`."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

from k2.model.errors import UserError


class DataType(StrEnum):
    """What kind of event a topic and a table hold."""

    TRADES = "trades"
    QUOTES = "quotes"
    REFERENCE_DATA = "reference_data"
    GAPS = "gaps"

    @classmethod
    def parse(cls, text: str) -> DataType:
        """`reference-data` and `reference_data` are the same; anything unknown is a `UserError`."""
        try:
            return cls(text.strip().lower().replace("-", "_"))
        except ValueError:
            raise UserError(
                "Unknown data type", found=text, expected="one of trades, quotes, reference-data, gaps"
            ) from None


class AssetClass(StrEnum):
    """The asset classes a topic name may carry."""

    EQUITIES = "equities"
    CRYPTO = "crypto"
    FUTURES = "futures"
    OPTIONS = "options"
    FX = "fx"

    @classmethod
    def parse(cls, text: str) -> AssetClass:
        """Parse, or raise a `UserError` that lists what there is."""
        try:
            return cls(text.strip().lower())
        except ValueError:
            raise UserError(
                "Unknown asset class", found=text, expected="one of " + ", ".join(a.value for a in cls)
            ) from None


_EXCHANGE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class TopicName:
    """A parsed `market.{asset_class}.{data_type}.{exchange}`; `str()` gives the topic's name."""

    asset_class: AssetClass
    data_type: DataType
    exchange: str

    def __post_init__(self) -> None:
        if not _EXCHANGE.fullmatch(self.exchange):
            raise UserError(
                "An exchange's code cannot be part of a topic name",
                found=self.exchange,
                expected="1 to 32 of a-z, 0-9 and '-', in lower case",
            )

    def __str__(self) -> str:
        return f"market.{self.asset_class}.{self.data_type}.{self.exchange}"

    @property
    def dead_letters(self) -> str:
        """The topic that keeps payloads which could not be used, as they came."""
        return f"{self}.dlq"

    @property
    def subject(self) -> str:
        """The Schema Registry subject of this topic's values."""
        return subject_of(str(self))

    @classmethod
    def of(cls, asset_class: str, data_type: str, exchange: str) -> TopicName:
        """Build from what a person wrote (any case)."""
        return cls(AssetClass.parse(asset_class), DataType.parse(data_type), exchange.strip().lower())

    @classmethod
    def parse(cls, topic: str) -> TopicName:
        """Parse a topic's name; a `UserError` says what a K2 topic looks like."""
        parts = topic.split(".")
        if len(parts) != 4 or parts[0] != "market":
            raise UserError(
                "Not a K2 topic name", found=topic, expected="market.{asset_class}.{data_type}.{exchange} in lower case"
            )
        return cls(AssetClass.parse(parts[1]), DataType.parse(parts[2]), parts[3])


def subject_of(topic: str) -> str:
    """Subject of a topic's values, by the registry's TopicNameStrategy."""
    return f"{topic}-value"


def account_group_id(topic: str) -> str:
    """Group beside whose offsets of a topic of gap events the feed leaves what its account comes to. Nobody joins it."""
    return f"k2-account-{re.sub(r'[^a-z0-9]+', '-', topic.removeprefix('market.')).strip('-')}"


def sink_key(topic: str, table: str) -> str:
    """A short stable key of a (topic, table) pair, fit for a Kubernetes name: the pair owns the sink, no feed does."""
    digest = hashlib.sha256(f"{topic}\x1f{table}".encode()).hexdigest()[:8]
    slug = re.sub(r"[^a-z0-9]+", "-", f"{topic.removeprefix('market.')}".lower()).strip("-")[:40].rstrip("-")
    return f"{slug}-{digest}"


def sink_group_id(topic: str, table: str) -> str:
    """Consumer group of the sink of (topic, table)."""
    return f"k2-sink-{sink_key(topic, table)}"
