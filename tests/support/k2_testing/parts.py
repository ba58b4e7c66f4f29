"""Real Kafka and a real registry for as long as a test session needs them, and how they are emptied."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
from confluent_kafka.admin import AdminClient

from k2.bus.admin import delete_topics
from k2_local.services.kafka import LocalKafka
from k2_local.services.registry import LocalRegistry
from k2_testing.cluster import until


@contextmanager
def running_kafka(folder: Path) -> Generator[LocalKafka]:
    """A broker with its data and logs under `folder`."""
    # It lives for minutes: the time that its best compiler takes would never come back.
    quick = ("-XX:TieredStopAtLevel=1",)
    broker = LocalKafka(folder / "kafka", logs=folder / "logs", run_dir=folder / "run", jvm_options=quick)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@contextmanager
def running_registry(folder: Path) -> Generator[LocalRegistry]:
    """A schema registry with its logs under `folder`."""
    service = LocalRegistry(folder / "registry", logs=folder / "logs", run_dir=folder / "run")
    service.start()
    try:
        yield service
    finally:
        service.stop()


def forget_topics(broker: LocalKafka) -> None:
    """Delete every topic but Kafka's own; returns when they are gone."""
    config = {"bootstrap.servers": broker.bootstrap_servers}
    admin = AdminClient(config)

    def left() -> list[str]:
        return [name for name in admin.list_topics(timeout=60).topics if not name.startswith("__")]

    if names := left():
        delete_topics(config, names)
    until(lambda: not left(), "topics are left", 120)


def forget_subjects(service: LocalRegistry) -> None:
    """Delete every subject with all its versions."""
    with httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client:
        left = client.get("subjects").raise_for_status().json()
        while left:
            for subject in left:
                for permanent in ("false", "true"):
                    client.delete(f"subjects/{subject}", params={"permanent": permanent})
            before, left = left, client.get("subjects").raise_for_status().json()
            # One that another refers to stays until that one is gone.
            assert len(left) < len(before), left


def begin_anew(service: LocalRegistry) -> None:
    """Stop a registry, delete its state and start it at the same address: what one in memory is after a restart."""
    port = service.port
    service.stop()
    state = [*(service.log.parents[1] / "registry").glob("registry.*db")]
    assert state, "it kept its state elsewhere"
    for file in state:
        file.unlink()
    service.start()
    assert service.port == port
