"""/v1/dead-letters: counts of a topic's newest letters, for keys that see whole tables."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.service import problem, serving

from k2.api.access.keys import KeyRules, new_key, write_keys
from k2.api.app import create_app
from k2.bus.admin import TopicSpec, ensure_topics
from k2.bus.dead_letters import DeadLetter, DeadLetterWriter
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.model.workload import QueryConfig

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
RULES = {
    "all": None,
    "trades": KeyRules(tables=(DataType.TRADES,)),
    "quotes": KeyRules(tables=(DataType.QUOTES,)),
    "one symbol": KeyRules(symbols=("BHP",)),
    "one exchange": KeyRules(exchanges=("ASX",)),
}


@pytest.fixture
def topic(kafka, free_topic):
    """A topic with five letters, two of them copies of one."""
    name, config = free_topic(), {"bootstrap.servers": kafka.bootstrap_servers}
    ensure_topics(config, [TopicSpec(name, partitions=1), TopicSpec(f"{name}.dlq", partitions=1)])
    reasons = ("truncated", "truncated", "price of 1E+20 has too many digits", "truncated", "tombstone (no value)")
    with DeadLetterWriter(config, f"{name}.dlq") as writer:
        for offset, reason in zip((0, 0, 1, 2, 3), reasons, strict=True):
            writer.send([DeadLetter(b"SECRET", reason, topic=name, partition=0, offset=offset)])
            writer.flush()
    return name


@pytest.fixture
def ask(tmp_path, kafka):
    """Asks the route with the key of that name."""
    make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    made = {name: new_key(name.replace(" ", "-"), now=datetime.now(UTC), rules=rules) for name, rules in RULES.items()}
    write_keys(tmp_path / "keys.json", [entry for _, entry in made.values()])
    settings = Settings(
        catalog_properties=catalog_properties(tmp_path),
        data_dir=tmp_path,
        kafka_bootstrap_servers=kafka.bootstrap_servers,
    )
    app = create_app(QueryConfig(api_keys_file=tmp_path / "keys.json"), settings)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield lambda key, **params: client.get("/v1/dead-letters", params=params, headers={"X-API-Key": made[key][0]})


def counts(reply):
    assert reply.status_code == 200, reply.text
    body = reply.json()
    return {each["reason"]: each["letters"] for each in body["reasons"]}, body["complete"]


def test_letters_are_counted_once_by_class_the_newest_first_to_be_looked_at(ask, topic):
    assert counts(ask("all", topic=topic)) == ({"truncated": 2, "decimal": 1, "tombstone": 1}, True)
    assert counts(ask("all", topic=f"{topic}.dlq", reason="digits")) == ({"decimal": 1}, True)
    assert counts(ask("all", topic=topic, limit=2)) == ({"truncated": 1, "tombstone": 1}, False)
    reply = ask("all", topic=topic)
    assert (reply.json()["topic"], reply.json()["letters"]) == (f"{topic}.dlq", 4)
    newest = next(each for each in reply.json()["reasons"] if each["reason"] == "truncated")
    assert (newest["partition"], newest["offset"]) == (0, 3)
    assert "SECRET" not in reply.text


def test_only_keys_that_see_all_of_its_kind_may_ask(ask, topic):
    assert ask("trades", topic=topic).status_code == 200
    for key in ("quotes", "one symbol", "one exchange"):
        problem(ask(key, topic=topic), 403)


def test_a_topic_that_is_none_is_said_so(ask, free_topic):
    assert "There is no topic" in problem(ask("all", topic=free_topic()), 404)["detail"]
    assert "Not a K2 topic name" in problem(ask("all", topic="orders"), 400)["detail"]


def test_a_service_that_knows_no_kafka_says_so_and_not_to_try_again(tmp_path, free_topic):
    make_lake(tmp_path, DataType.TRADES)
    with serving(tmp_path) as client:
        reply = client.get("/v1/dead-letters", params={"topic": free_topic()})
        assert "knows no Kafka" in problem(reply, 404)["detail"]
