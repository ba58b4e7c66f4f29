"""Real Kafka and a real registry for as long as a test session needs them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from k2_operator.local.kafka import LocalKafka
from k2_operator.local.registry import LocalRegistry


@contextmanager
def running_kafka(folder: Path) -> Generator[LocalKafka]:
    """A broker with its data and logs under `folder`."""
    broker = LocalKafka(folder / "kafka", logs=folder / "logs", run_dir=folder / "run")
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
