"""What many of these tests begin with: a lake, questions about it, the service over it, and a pipeline that fills one."""

import pytest
from k2_testing.asking import questions_of
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
