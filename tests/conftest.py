"""Fixtures that every test folder shares: real Kafka and a real registry, started once per test session."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from k2_testing.parts import running_kafka, running_registry

from k2_operator.local.kafka import LocalKafka
from k2_operator.local.registry import LocalRegistry

# Wall time says nothing of a property where other processes want the same two cores.
hypothesis.settings.register_profile("k2", deadline=None)
hypothesis.settings.load_profile("k2")


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew; look at the difference")


@pytest.fixture(scope="session")
def update_golden(request) -> bool:
    """Whether golden files are written instead of compared."""
    return request.config.getoption("--update-golden")


@pytest.fixture(scope="session")
def parts_dir(tmp_path_factory) -> Path:
    """Where the session's Kafka and registry keep their data and logs."""
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="session")
def kafka(parts_dir) -> Iterator[LocalKafka]:
    """A running broker: `.bootstrap_servers`, and `.stop()`, `.kill()`, `.start()` (same port, same data).

    A test that stops it starts it again before it ends.
    """
    with running_kafka(parts_dir) as broker:
        yield broker


@pytest.fixture(scope="session")
def registry(parts_dir) -> Iterator[LocalRegistry]:
    """A running schema registry: `.url` ends in /apis/ccompat/v7; `.stop()`, `.kill()`, `.start()` as for Kafka."""
    with running_registry(parts_dir) as service:
        yield service


_serial = itertools.count(1)


@pytest.fixture
def unique() -> str:
    """A short name that no other test of this session has, fit for an exchange code (`t12345n7`)."""
    return f"t{os.getpid()}n{next(_serial)}"


@pytest.fixture
def free_topic(unique) -> Callable[..., str]:
    """Makes topic names that no other test has: `free_topic()` or `free_topic("quotes")`; the topic is not created."""

    def name(data_type: str = "trades", asset_class: str = "equities") -> str:
        return f"market.{asset_class}.{data_type}.{unique}x{next(_serial)}"

    return name
