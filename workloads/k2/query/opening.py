"""Questions over a lake, put together: an engine, a planner, and the tails of topics where Kafka is known."""

from __future__ import annotations

from typing import Any

from k2.lake.catalog import load_table, open_catalog
from k2.lake.reader import TableReader
from k2.model.settings import Settings
from k2.model.workload import QueryConfig
from k2.query.engine.database import Limits
from k2.query.engine.engine import Engine
from k2.query.engine.own_database import OwnDatabase
from k2.query.own_sql import OwnSql
from k2.query.plan.planner import Planner
from k2.query.questions import Questions
from k2.query.rows.letters import LetterSource
from k2.query.rows.tail_view import TailSource


def open_questions(config: QueryConfig, settings: Settings, *, live: bool = False) -> tuple[Questions, Engine]:
    """Questions about the configured tables. The catalog is opened at the first one.

    `live`: hybrid answers where Kafka and the registry are configured.
    """
    limits = Limits(config.connections, config.threads, config.memory_limit, config.timeout_seconds)
    engine = Engine(limits, store=settings.catalog_config)
    patience = config.catalog_seconds
    reader = TableReader(
        lambda: open_catalog(settings, patience), settings=settings.catalog_config, answer_seconds=patience
    )
    tails = open_tails(config, settings, reader) if live else None
    return Questions(
        Planner(reader, config.tables, tails=tails, letters=open_letters(settings) if live else None), engine
    ), engine


def open_own_sql(config: QueryConfig, settings: Settings, questions: Questions) -> OwnSql:
    """Somebody's own SQL over the same tables, in as much memory as the questions have. Nothing is opened yet."""
    return OwnSql(questions.planner, OwnDatabase(config.memory_limit, store=settings.catalog_config))


def open_letters(settings: Settings) -> LetterSource | None:
    """Where dead letters are read; None where Kafka is not known."""
    if not settings.kafka_bootstrap_servers:
        return None
    from k2.query.tail.letters import TopicLetters  # as below

    return TopicLetters(settings.kafka_config)


def open_tails(config: QueryConfig, settings: Settings, reader: TableReader) -> TailSource | None:
    """The tails of the tables' topics; None where they are not wanted or Kafka is not known. Nothing is read yet."""
    if not config.hybrid or not settings.kafka_bootstrap_servers or not settings.registry_url:
        return None
    from k2.query.tail.tails import Tails  # Kafka's client is loaded only where it is used

    def load(identifier: str) -> Any:
        with open_catalog(settings) as catalog:
            return load_table(catalog, identifier)

    return Tails(
        reader,
        load,
        settings.kafka_config,
        settings.registry_config,
        budget_bytes=config.tail_bytes,
        idle_seconds=config.tail_idle_seconds,
        wait_seconds=config.tail_wait_seconds,
    )
