"""What the source's numbers showed, counted where people look: metrics by exchange and data type, and a log line of what is missing."""

from __future__ import annotations

from k2.model.topics import TopicName
from k2.obs import metrics
from k2.obs.logging import get_logger
from k2.sink.sequences import Sequences

log = get_logger(__name__)


def count_sequences(seen: Sequences, topic: str, table: str) -> None:
    """Count what one batch showed. One that showed nothing makes the counters be there: they begin at zero."""
    gaps = sum(seen.gaps.values())
    name = TopicName.parse(topic)
    labels = (name.exchange.upper(), str(name.data_type))
    metrics.SEQUENCE_GAPS.labels(*labels).inc(gaps)
    metrics.SEQUENCE_MISSING.labels(*labels).inc(seen.missing)
    metrics.SEQUENCE_RESETS.labels(*labels).inc(seen.resets)
    metrics.OUT_OF_ORDER.labels(*labels).inc(seen.late)
    if gaps:
        log.warning(
            "sink.sequence_gaps_found",
            topic=topic,
            table=table,
            gaps=gaps,
            missing=seen.missing,
            some=[f"{each.exchange} {each.symbol}: {each.after + 1} to {each.before - 1}" for each in seen.named],
        )
