"""What the operator remembers of Kafka, and when it asks again."""

import asyncio

import pytest

from k2.model.settings import Settings
from k2_operator.reconcile.backends import Backends
from k2_operator.reconcile.world import WorldPart


@pytest.fixture
def clock():
    return [100.0]


@pytest.fixture
def asked():
    return []


@pytest.fixture
def backends(clock):
    made = Backends(Settings(), clock=lambda: clock[0])
    yield made
    made.close()


def ensure(backends, asked, *topics):
    def call():
        asked.append(topics)
        return []

    asyncio.run(backends._unless_well(f"topics {topics}", (WorldPart.KAFKA,), call, topics=frozenset(topics)))


def test_a_topic_that_was_deleted_is_asked_for_again_and_no_other_is(backends, clock, asked):
    ensure(backends, asked, "trades", "trades.dlq")
    ensure(backends, asked, "quotes", "quotes.dlq")
    clock[0] += 1
    assert backends.missing_topics({"trades", "quotes"}, {"quotes"}, clock[0]) == {"trades"}
    ensure(backends, asked, "trades", "trades.dlq")
    ensure(backends, asked, "quotes", "quotes.dlq")
    assert asked == [("trades", "trades.dlq"), ("quotes", "quotes.dlq"), ("trades", "trades.dlq")]


def test_a_topic_that_was_made_since_kafka_was_asked_or_never_made_is_not_missed(backends, clock, asked):
    since = clock[0]
    clock[0] += 1
    ensure(backends, asked, "trades")
    assert backends.missing_topics({"trades", "quotes"}, set(), since) == set()
    assert backends.missing_topics({"trades", "quotes"}, set(), clock[0] + 1) == {"trades"}
