"""What many of these tests begin with: a lake, questions about it, the service over it, and a pipeline that fills one."""

import pytest
from k2_testing.asking import questions_of
from k2_testing.cluster import until
from k2_testing.exchange import Exchange
from k2_testing.exchange_client import SECONDS
from k2_testing.lake import make_lake
from k2_testing.service import serving
from k2_testing.sinks import Pipeline

from k2.model.topics import DataType


@pytest.fixture
def lake(tmp_path):
    """Empty tables of trades and quotes in the test's own folder."""
    return make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)


@pytest.fixture
def questions(lake, tmp_path):
    """Questions about `lake`, asked in this process."""
    with questions_of(tmp_path) as found:
        yield found


@pytest.fixture
def client(lake, tmp_path):
    """The query service over `lake`, asked with a key that opens everything."""
    with serving(tmp_path) as found:
        yield found


@pytest.fixture
def pipeline(tmp_path, kafka, registry, free_topic):
    """A topic, a table in the test's own folder, and sinks as processes between them."""
    made = Pipeline(tmp_path, kafka, registry, free_topic())
    yield made
    made.close()


@pytest.fixture(scope="module")
def still_exchange():
    with Exchange(listed=3, rate=0.0, waits=False, history=5, rules={"weight": 0, "messages_a_second": 0}) as exchange:
        yield exchange


@pytest.fixture
def still(still_exchange):
    """An exchange whose market moves only when it is told to, with nobody connected."""
    until(lambda: still_exchange.connections == 0, "somebody is still connected", SECONDS)
    return still_exchange
