"""What every test folder shares: the order of the run, and real Kafka and a real registry, started once for each worker.

A worker takes whole files. The long ones begin first, so that none is left over at the end while the others idle; among the
first, too, is everything that starts no server, so that a plain mistake shows in the first minute.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from k2_testing.parts import forget_subjects, forget_topics, running_kafka, running_registry
from k2_testing.spent import Spent

from k2_local.services.kafka import LocalKafka
from k2_local.services.registry import LocalRegistry

# Wall time says nothing of a property where other processes want the same two cores.
hypothesis.settings.register_profile("k2", deadline=None)
hypothesis.settings.load_profile("k2")


# The longest file first, then what is quick, then the rest.
LONGEST = ("cluster/test_kind_e2e.py",)
FOLDERS = ("unit", "cluster", "charts", "simulation", "faults", "integration", "page")


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew; look at the difference")


def pytest_configure(config):
    config.pluginmanager.register(Spent(config), "k2-spent")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    items.sort(key=_place)


def _place(item) -> tuple[int, int]:
    """Where a test's file comes in the run; tests of one file stay in their order, for sorting is stable."""
    file = item.path.relative_to(Path(__file__).parent)
    if file.as_posix() in LONGEST:
        return 0, LONGEST.index(file.as_posix())
    folder = file.parts[0]
    return 1, FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)


@pytest.fixture
def measured(record_property):
    """Takes a figure by name; the run's last lines show all of them."""
    return record_property


@pytest.fixture(scope="session")
def update_golden(request) -> bool:
    """Whether golden files are written instead of compared."""
    return request.config.getoption("--update-golden")


@pytest.fixture(scope="session")
def parts_dir(tmp_path_factory) -> Path:
    """Where the session's Kafka and registry keep their data and logs."""
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="session")
def worker_kafka(parts_dir) -> Iterator[LocalKafka]:
    """The worker's broker, started once. Tests ask for `kafka`."""
    with running_kafka(parts_dir) as broker:
        yield broker


@pytest.fixture(scope="session")
def worker_registry(parts_dir) -> Iterator[LocalRegistry]:
    """The worker's schema registry, started once. Tests ask for `registry`."""
    with running_registry(parts_dir) as service:
        yield service


@pytest.fixture(scope="module")
def kafka(worker_kafka) -> Iterator[LocalKafka]:
    """A running broker: `.bootstrap_servers`, and `.stop()`, `.kill()`, `.start()` (same port, same data).

    A test that stops it starts it again before it ends. After each file it is emptied: tests of many files want the topics
    of the same few known exchanges, each with partitions of its own.
    """
    yield worker_kafka
    forget_topics(worker_kafka)


@pytest.fixture(scope="module")
def registry(worker_registry) -> Iterator[LocalRegistry]:
    """A running schema registry: `.url` ends in /apis/ccompat/v7; `.stop()`, `.kill()`, `.start()`; emptied as Kafka is."""
    yield worker_registry
    forget_subjects(worker_registry)


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
