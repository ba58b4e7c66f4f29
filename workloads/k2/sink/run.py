"""`k2 run sink`: a sink's parts put together from its configuration and the environment."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from k2.bus.admin import beginning_offsets, committed_with_metadata, end_offsets
from k2.bus.consumer import TopicReader
from k2.bus.dead_letters import DeadLetter, DeadLetterWriter
from k2.bus.registry import LOOK_SECONDS, Schemas
from k2.bus.single_messages import Original, read_single_messages
from k2.lake.appends.commit import Committer, Origin
from k2.lake.appends.verdicts import DeadRow
from k2.lake.catalog import LastingCatalog, load_table
from k2.lake.kept_schemas import TopicSchemas, kept_schemas
from k2.lake.payloads import PayloadDecoder
from k2.lake.schema_ids import SchemaIds, confirm
from k2.model.errors import K2Error
from k2.model.events import EVENT_TIME, Decimals, arrow_schema
from k2.model.exchanges import known_exchange
from k2.model.held_up import HeldUpBy
from k2.model.settings import Settings
from k2.model.tables import OFFSET, PARTITION
from k2.model.topics import DataType, TopicName
from k2.model.workload import SinkConfig
from k2.obs import metrics
from k2.obs.http import serve_health
from k2.obs.logging import get_logger
from k2.obs.stopping import stop_on_signals
from k2.sink.first_figures import begin
from k2.sink.held import Holding, Poison
from k2.sink.loop import POLL_MESSAGES, SinkLoop
from k2.sink.notes import Notes
from k2.sink.reading import Starts
from k2.sink.sequences import SequenceTracker
from k2.sink.telling import Telling, in_words
from k2.sink.waiting import SinkWait, catalog_errors, origin_now
from k2.sink.writing import Writing

log = get_logger(__name__)


def run_sink(env: Settings, config: SinkConfig) -> None:
    """Run until SIGTERM or SIGINT (what is held is committed first), or until the end with `until_end`.

    Raises:
        K2Error: with `until_end`: a person has to decide, or Kafka, the registry, the catalog or the store failed for longer than
            they are waited for. Without it the sink waits until it can go on, and says why it does not.
    """
    # Batches of 100 MB come and go: the system gives their pages back and hands them out warm (measured: 90 MiB less at
    # the peak, a third of the time to gather a batch).
    pa.set_memory_pool(pa.system_memory_pool())
    telling = Telling(config.topic)
    status = _Status(telling)
    begin(config)
    with (
        stop_on_signals(lambda number: log.info("sink.stop_requested", signal=number.name)) as stop,
        serve_health(env.metrics_port, status.ready, families=metrics.OF_SINKS, warns=status.warning) as server,
    ):
        log.info("sink.started", port=server.port, topic=config.topic, table=config.table)
        status.waiting = waiting = SinkWait(env, config, stop, telling)
        while (origin := waiting.origin(status.refused)) is not None:
            try:
                _run(env, config, origin, stop, status)
            except K2Error as error:
                if config.until_end or stop.is_set():
                    raise
                # The group's partitions are free meanwhile, and nothing is read until a look finds that it can go on. Only the
                # words are kept: with the error everything would stay that the run had read.
                log.warning("sink.run_ended", topic=config.topic, table=config.table, reason=str(error))
                status.refused = in_words(error)
            else:
                return
            finally:
                status.sink = None
            gc.unfreeze()
            gc.collect()


def _run(env: Settings, config: SinkConfig, origin: Origin, stop: threading.Event, status: _Status) -> None:
    kafka = env.kafka_config  # asked at each use: credentials are rotated
    schemas = Schemas(env.registry_config)
    at_commit = Schemas(env.registry_config, seconds=LOOK_SECONDS, retries=0)
    catalog = LastingCatalog(env)  # this thread's own; the writing thread opens another
    letters = DeadLetterWriter(kafka, TopicName.parse(config.topic).dead_letters)

    def committer() -> Committer:
        return Committer(
            LastingCatalog(env),
            config.table,
            origin,
            config.data_type,
            rules=config.rules,
            bury=bury_rows,
            confirm=confirmed,
            stop=stop,
        )

    def recorded(of: Origin = origin) -> dict[int, int]:
        with catalog_errors(config.table):
            return Committer(catalog, config.table, of, config.data_type).start_offsets()

    def table() -> Any:
        with catalog_errors(config.table):
            return load_table(catalog, config.table)

    def kept() -> TopicSchemas:
        return kept_schemas(table().metadata).of(origin.topic_id)

    def confirmed(held: TopicSchemas, some: Iterable[int]) -> None:
        confirm(at_commit, config.topic, config.table, held, some)

    ids = SchemaIds(config.topic, config.table, schemas, kept)

    def starts() -> dict[int, int]:
        ids.renew()  # what was met since the last commit may be kept otherwise by now
        return origin_now(env, origin, recorded)

    read = PayloadDecoder(
        config.topic,
        config.table,
        config.data_type,
        ids,
        table,
        config.prices,
    )

    def bury(poison: list[Poison]) -> None:
        letters.send([_letter(each, config) for each in poison])
        letters.flush()

    def bury_rows(rows: Sequence[DeadRow]) -> Mapping[int, int]:
        """Their rows are decoded: the messages are read once more, to be put aside as they came."""
        offsets: dict[int, list[int]] = {}
        for each in rows:
            offsets.setdefault(each.partition, []).append(each.offset)
        came = read_single_messages(kafka(), config.topic, offsets)
        dead = [_row_letter(each, came, config) for each in rows]
        letters.send(dead)
        letters.flush()
        return Counter(each.partition for each, letter in zip(rows, dead, strict=True) if letter.attempts)

    ends: dict[int, int] | None = None
    if config.until_end:
        earliest = beginning_offsets(kafka(), config.topic)
        ends = {p: end for p, end in end_offsets(kafka(), config.topic).items() if end > earliest[p]}
    follows = config.sequences == "per_symbol"
    sink = SinkLoop(
        holding=Holding(read, _empty(config.data_type, read.decimals)),
        writing=Writing(committer, bury, config.max_snapshots, stop, _tracker(config) if follows else None),
        starts=Starts(
            starts,
            lambda: beginning_offsets(kafka(), config.topic),
            config.topic,
            config.table,
        ),
        notes=Notes(config.topic, lambda: committed_with_metadata(kafka(), config.group_id, config.topic)),
        telling=status.telling,
        topic=config.topic,
        table=config.table,
        interval=config.commit_interval_seconds,
        most_bytes=config.commit_bytes,
        stop=stop,
        ends=ends,
        settled=recorded,
        stop_above=config.dead_letters_stop_above,
        numbered=follows,
        refused=status.refused,
        look_after=letters.refresh,
        rested=pa.default_memory_pool().release_unused,
    )
    status.sink = sink
    reader = TopicReader(
        kafka,
        config.topic,
        config.group_id,
        on_assigned=sink.assigned,
        on_revoked=sink.revoked,
        on_lost=sink.lost,
    )
    # What was made until here lives as long as the process: the collector need not look at it at every million messages.
    gc.collect()
    gc.freeze()
    # Nor at every poll, whose messages are many and have no cycles (measured: 5 % of the sink's processor time).
    gc.set_threshold(10 * POLL_MESSAGES)
    try:
        sink.run(reader)
    finally:
        letters.close()
        schemas.close()
        at_commit.close()
        catalog.close()
    log.info("sink.stopped", topic=config.topic, table=config.table)


def _tracker(config: SinkConfig) -> SequenceTracker:
    return SequenceTracker(known_exchange(TopicName.parse(config.topic).exchange), EVENT_TIME[config.data_type])


def _letter(poison: Poison, config: SinkConfig) -> DeadLetter:
    letter = DeadLetter(
        payload=poison.payload,
        reason=poison.reason,
        topic=config.topic,
        partition=poison.partition,
        offset=poison.offset,
        data_type=config.data_type,
    )
    return letter if poison.message is None else letter.of_message(poison.message)


def _row_letter(row: DeadRow, came: Mapping[tuple[int, int], Original], config: SinkConfig) -> DeadLetter:
    # What retention took away since it was decoded is told without its payload: place and reason are still true.
    message = came.get((row.partition, row.offset), Original(None, None))
    letter = DeadLetter(
        payload=message.payload,
        key=message.key,
        reason=row.reason,
        topic=config.topic,
        partition=row.partition,
        offset=row.offset,
        data_type=config.data_type,
    )
    return letter.of_attempt(message.headers)


def _empty(data_type: DataType, decimals: Decimals) -> pa.Table:
    fields = [*arrow_schema(data_type, decimals), pa.field(PARTITION, pa.int32()), pa.field(OFFSET, pa.int64())]
    return pa.schema(fields).empty_table()


class _Status:
    """What /ready says."""

    def __init__(self, telling: Telling) -> None:
        self.telling = telling
        self.waiting: SinkWait | None = None
        self.sink: SinkLoop | None = None
        self.refused: tuple[HeldUpBy, str] | None = None

    def ready(self) -> tuple[bool, str]:
        """Ready once the table was read, the group has answered, with partitions or without, and nothing holds the sink up."""
        if self.sink is None:
            return False, "" if self.waiting is None else self.waiting.reason
        return self.sink.ready

    def warning(self) -> str:
        """What is wrong although it goes on; and what only people can mend."""
        held = self.telling.held
        if held is not None and not held.by.passes:
            return held.said
        return "" if self.sink is None else self.sink.warning
