"""A feed's account in Kafka: read when the feed begins, and what it comes to left for the operator.

Three things are enough to know what a process before this one knew: the account's events, the trades since the last time that symbols
were checked but one, and the exchange's newest trades. No table is asked, and no catalog.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pyarrow as pa

from k2.bus.admin import beginning_offsets, end_offsets, offsets_at
from k2.bus.bounded import read_to_end
from k2.bus.groups import tell_for_group
from k2.feeds.gaps.account import Account, Way
from k2.feeds.venues.venue import Numbering
from k2.model.compute import pc
from k2.model.gap_events import gap_events
from k2.model.gap_note import GapNote
from k2.model.gaps import GapAccount
from k2.model.settings import Settings
from k2.model.topics import DataType, account_group_id
from k2.obs.logging import get_logger

MOST_READ = 200_000
"""Trades of a partition that are read where nothing was ever checked."""

SLACK_US = 5_000_000
"""The feed's clock may be set back a little between two of its words."""

_log = get_logger(__name__)


def read_account(settings: Settings, topic: str) -> GapAccount:
    """The account as its topic tells it.

    Raises:
        UserError: there is no such topic.
        WorldError: Kafka or the registry cannot be reached.
    """
    account = GapAccount()
    for batch in read_to_end(settings.kafka_config(), settings.registry_config(), topic, DataType.GAPS):
        account.add(gap_events(batch))
    return account


def begun_account(
    settings: Settings, topics: Mapping[DataType, str], numbering: Numbering, symbols: Collection[str] | None = None
) -> Account:
    """The account of a feed that begins, with all that was known when its last process ended, however that was.

    Args:
        settings: addresses and credentials.
        topics: the feed's; those of trades and of gaps are read.
        numbering: what the exchange's numbers prove.
        symbols: those that the feed hears: others of the same exchange are another feed's. None: all are its own.

    Raises:
        UserError: a topic is missing.
        WorldError: Kafka or the registry cannot be reached.
    """
    known = read_account(settings, topics[DataType.GAPS])
    if symbols is not None:
        symbols = sorted(symbols)
        known.keep(symbols)
    trades = topics[DataType.TRADES]
    kafka = settings.kafka_config()
    if numbering is Numbering.NONE:
        starts = {number: end - 1 for number, end in end_offsets(kafka, trades).items()}
    elif len(known.rounds) == known.rounds.maxlen:
        starts = offsets_at(kafka, trades, known.rounds[0] - SLACK_US)
    else:
        first = beginning_offsets(kafka, trades)
        starts = {number: max(first[number], end - MOST_READ) for number, end in end_offsets(kafka, trades).items()}
    batches = [
        batch.select(["symbol", "source_sequence", "timestamp", "ingestion_timestamp"])
        for batch in read_to_end(kafka, settings.registry_config(), trades, DataType.TRADES, starts)
    ]
    times = [pc.max(batch.column("ingestion_timestamp")).value for batch in batches]
    account = Account(numbering, known, max(times, default=None))
    for batch, at in zip(batches, times, strict=True):
        mine = (
            batch if symbols is None else batch.filter(pc.is_in(batch.column("symbol"), pa.array(symbols, pa.string())))
        )
        account.seen(DataType.TRADES, mine, Way.STREAM, at)
    _log.info(
        "account.begun",
        topic=topics[DataType.GAPS],
        trades_read=sum(map(len, batches)),
        open=account.counts.open,
        symbols=len(known.checked),
    )
    return account


def leave_note(settings: Settings, topic: str, note: GapNote) -> None:
    """Leave what the account comes to where the operator finds it.

    Args:
        settings: addresses and credentials.
        topic: the account's.
        note: what it comes to.

    Raises:
        WorldError: Kafka does not take it.
    """
    tell_for_group(settings.kafka_config(), account_group_id(topic), topic, {0: (0, note.to_json())})
