"""What a sink shows before it has read anything: counters at zero, and how far its table is, as its group's offsets tell.

Prometheus sees no increase in a counter that begins with its first event; and a sink that is started anew in an outage would
know of neither the last commit nor the lag, so nobody would be told that nothing moves.
"""

from __future__ import annotations

from collections.abc import Mapping

from k2.bus.admin import beginning_offsets, committed_with_metadata, end_offsets
from k2.model.commit_note import CommitNote
from k2.model.errors import K2Error
from k2.model.reasons import REASON_CLASSES
from k2.model.workload import SinkConfig
from k2.obs import metrics
from k2.obs.logging import get_logger

log = get_logger(__name__)


def begin(config: SinkConfig) -> None:
    """Start every counter of this sink at zero. Histograms begin by themselves: a rate needs no first value of theirs."""
    topic, table = config.topic, config.table
    for outcome in metrics.COMMIT_OUTCOMES:
        metrics.COMMITS.labels(table, outcome)
    for reason in REASON_CLASSES:
        metrics.DEAD_LETTERS.labels(topic, reason)
        metrics.RECENT_DEAD.labels(topic, reason)
    for change in ("assigned", "revoked", "lost"):
        metrics.REBALANCES.labels(topic, change)
    for of_topic in (metrics.CONSUMED, metrics.CONSUMED_BYTES, metrics.DEAD_IN_A_ROW, metrics.SINK_LAG):
        of_topic.labels(topic)
    for of_table in (
        metrics.DUPLICATES,
        metrics.ROWS_WRITTEN,
        metrics.BYTES_WRITTEN,
        metrics.FILES_WRITTEN,
        metrics.SNAPSHOTS_EXPIRED,
        metrics.SINK_BUFFERED,
        metrics.SINK_LAST_COMMIT,
        metrics.SINK_NEWEST_EVENT,
    ):
        of_table.labels(table)


def tell(kafka: Mapping[str, str], config: SinkConfig) -> None:
    """Show lag and the last commit as they stand beside the group's offsets. What cannot be asked now stays as it was."""
    try:
        left = committed_with_metadata(kafka, config.group_id, config.topic)
        ends = end_offsets(kafka, config.topic)
        earliest = beginning_offsets(kafka, config.topic)
    except K2Error as error:  # whoever waits for Kafka says so
        log.debug("sink.progress_not_told", topic=config.topic, reason=str(error))
        return
    # Of a partition that nothing was read of there may stand a 0, long before what retention has left.
    behind = sum(max(0, end - max(earliest.get(p, 0), left.get(p, (0, ""))[0])) for p, end in ends.items())
    metrics.SINK_LAG.labels(config.topic).set(behind)
    notes = [note for _, text in left.values() if (note := CommitNote.from_json(text)) is not None]
    for gauge, times in (
        (metrics.SINK_LAST_COMMIT, [note.committed for note in notes]),
        (metrics.SINK_NEWEST_EVENT, [note.newest for note in notes]),
    ):
        newest = max((each for each in times if each is not None), default=None)
        if newest is not None:
            gauge.labels(config.table).set(newest.timestamp())
