"""Feeds as workloads: `run_load` brings a finite source into its topics once, `run_producer` a live one until stopped."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from k2.feeds.gaps.figures import begin_figures
from k2.feeds.load.chunks import FiniteSource
from k2.feeds.load.ledger import Ledger
from k2.feeds.load.live import LiveProducer
from k2.feeds.load.load import Load, LoadTally
from k2.feeds.load.opening import Opening
from k2.feeds.load.outlet import ALL_STANDARD, KafkaOutlet, topic_identities
from k2.feeds.load.rejects import RejectsFile
from k2.feeds.sources import finite_source, live_source
from k2.model.errors import UserError, WorldError
from k2.model.events import Decimals
from k2.model.reasons import REASON_CLASSES
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.model.workload import ProducerConfig
from k2.obs import metrics
from k2.obs.http import serve_health
from k2.obs.logging import get_logger
from k2.obs.stopping import stop_on_signals

INTERRUPTED = 130
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 0.5, 15.0

_log = get_logger(__name__)


def stopping() -> AbstractContextManager[threading.Event]:
    """An event that SIGINT and SIGTERM set, instead of ending the process; a second signal ends it."""
    return stop_on_signals(second_ends=True)


def load_source(
    settings: Settings,
    source: FiniteSource,
    topics: Mapping[DataType, str],
    *,
    directory: Path,
    stop: threading.Event,
    rejects: RejectsFile | None = None,
    report: Callable[[LoadTally], None] | None = None,
    restart: bool = False,
    decimals: Mapping[DataType, Decimals] = ALL_STANDARD,
) -> tuple[LoadTally, Ledger]:
    """Load a source into topics that exist.

    Args:
        settings: addresses and credentials.
        source: what is loaded.
        topics: the topic of each data type.
        directory: where ledgers are kept.
        stop: ends the load early.
        rejects: where rejected rows are written.
        report: called with the tally after each chunk.
        restart: send everything again, whatever the ledger says.
        decimals: of the topics that have other than standard ones.

    Returns:
        The tally, and the (closed) ledger: its `progress.next_offsets` are what a table must reach to hold the load.

    Raises:
        UserError: a topic is missing, another process is at this load, or the source cannot be used.
        WorldError: Kafka or the registry cannot be reached. The ledger says how far the load came.
    """
    identities = topic_identities(settings, sorted(set(topics.values())))
    options = source.options | {f"topic {kind}": f"{topic} {identities[topic]}" for kind, topic in topics.items()}
    with Ledger.open(directory, options, source.parts, restart=restart) as ledger:
        if ledger.progress.finished:
            return Load(source, None, ledger, report=report).run(), ledger
        with KafkaOutlet(settings, topics, decimals) as outlet:
            return Load(source, outlet, ledger, rejects, report=report, stop=stop).run(), ledger


def run_load(settings: Settings, config: ProducerConfig) -> None:
    """Bring a feed's finite source into its topics; returns when all of it is acknowledged.

    Rejected rows go to the dead-letter topic and the rejects file, and are no failure of the load.

    Raises:
        SystemExit: 130, when a signal stopped it: the next run goes on from the ledger.
        UserError: the source or the topics cannot be used.
        WorldError: Kafka or the registry cannot be reached.
    """
    topics = {stream.data_type: stream.topic for stream in config.streams}
    _begin(config)
    with stopping() as stop, tempfile.TemporaryDirectory(prefix="k2-load-") as folder:
        directory = _writable(settings.data_dir, Path(folder))
        with serve_health(settings.metrics_port, lambda: (True, "loading"), families=metrics.OF_LOADS):
            _when_topics_exist(settings, topics, stop)
            if stop.is_set():
                raise SystemExit(INTERRUPTED)
            source = finite_source(Opening(config, settings, stop, Path(folder)))
            rejects = RejectsFile(directory / "rejects" / f"{config.feed.replace('/', '.')}.rejects.csv")
            with rejects:
                tally, ledger = load_source(
                    settings,
                    source,
                    topics,
                    directory=directory / "ledger",
                    stop=stop,
                    rejects=rejects,
                    report=_metered(config),
                    decimals=config.decimals,
                )
    _log.info("load.ended", feed=config.feed, **tally.as_dict(), next_offsets=ledger.progress.next_offsets)
    if tally.interrupted:
        raise SystemExit(INTERRUPTED)


def run_producer(settings: Settings, config: ProducerConfig) -> None:
    """Bring a live source into its topics until SIGTERM or SIGINT; what was made by then is flushed.

    Raises:
        UserError: the source has an end (that is for `run_load`), or the schemas cannot be registered.
        WorldError: the producer can send nothing more, or Kafka did not take the last events before the stop.
    """
    topics = {stream.data_type: stream.topic for stream in config.streams}
    _begin(config)
    with stopping() as stop, tempfile.TemporaryDirectory(prefix="k2-producer-") as folder:
        source = live_source(Opening(config, settings, stop, Path(folder)))
        live = LiveProducer(config.exchange, source.ready, source.lost)
        with serve_health(settings.metrics_port, live.ready, families=metrics.OF_PRODUCERS):
            _when_topics_exist(settings, topics, stop)
            if stop.is_set():
                return
            outlet = _when_it_opens(lambda: KafkaOutlet(settings, topics, config.decimals), stop)
            if outlet is None:
                return
            with outlet:
                _log.info("producer.started", feed=config.feed, topics=list(topics.values()))
                live.run(source.events(), outlet, source.unreadable)
    _log.info("producer.stopped", feed=config.feed, events=live.sent)


def _begin(config: ProducerConfig) -> None:
    """Start the counters at zero: Prometheus sees no increase in one that begins with its first event."""
    for stream in config.streams:
        for counter in (metrics.FEED_EVENTS, metrics.FEED_REJECTED):
            counter.labels(config.exchange, str(stream.data_type))
        for reason in REASON_CLASSES:
            metrics.DEAD_LETTERS.labels(stream.topic, reason)
    for figure in (
        metrics.FEED_CONNECTIONS,
        metrics.FEED_CONNECTION_FAILURES,
        metrics.FEED_WAITING,
        metrics.FEED_CLOCK_DIFFERENCE,
    ):
        figure.labels(config.exchange)
    for reason in metrics.DISCONNECTION_REASONS:
        metrics.FEED_DISCONNECTIONS.labels(config.exchange, reason)
    for outcome in metrics.MESSAGE_OUTCOMES:
        metrics.FEED_MESSAGES.labels(config.exchange, outcome)
    begin_figures(config.exchange)


def _when_topics_exist(settings: Settings, topics: Mapping[DataType, str], stop: threading.Event) -> None:
    """Wait for Kafka and the topics, with backoff: everything of a feed is applied at once, in no order."""
    pause = _FIRST_RETRY_SECONDS
    while not stop.is_set():
        try:
            topic_identities(settings, sorted(set(topics.values())))
        except (UserError, WorldError) as error:
            if not settings.kafka_bootstrap_servers:
                raise
            _log.info("topics.awaited", reason=str(error), seconds=pause)
            stop.wait(pause)
            pause = min(_LONGEST_RETRY_SECONDS, pause * 2)
        else:
            return


def _when_it_opens(opened: Callable[[], KafkaOutlet], stop: threading.Event) -> KafkaOutlet | None:
    """Open the way into Kafka, with backoff: a registry that is away, or whose password is being rotated, comes back. None: stopped."""
    pause = _FIRST_RETRY_SECONDS
    while not stop.is_set():
        try:
            return opened()
        except WorldError as error:
            _log.warning("registry.awaited", reason=str(error), seconds=pause)
            stop.wait(pause)
            pause = min(_LONGEST_RETRY_SECONDS, pause * 2)
    return None


def _metered(config: ProducerConfig) -> Callable[[LoadTally], None]:
    """Feeds the metrics from the tally's growth."""
    labels = (config.exchange, str(config.streams[0].data_type))
    last = [0, 0]

    def report(tally: LoadTally) -> None:
        metrics.FEED_EVENTS.labels(*labels).inc(tally.accepted - last[0])
        metrics.FEED_REJECTED.labels(*labels).inc(tally.rejected - last[1])
        last[:] = [tally.accepted, tally.rejected]

    return report


def _writable(directory: Path, otherwise: Path) -> Path:
    """The data directory, or a temporary one where it cannot be written (a pod without a volume).

    Without a lasting ledger a load that is run again sends all its events again; the sink drops them by their ids.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        writable = False
    else:
        writable = os.access(directory, os.W_OK)
    if not writable:
        _log.warning("ledger.not_persisted", path=str(directory))
    return directory if writable else otherwise
