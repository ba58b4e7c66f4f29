"""Lost and repeated commits against a real REST catalog, through a proxy that loses and repeats them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from k2_testing.cluster import until
from k2_testing.committed import ORIGIN, batch
from k2_testing.guarded import MountedSecret
from k2_testing.lake import TRADES, held
from k2_testing.rest_catalog import Proxy, RestCatalog

from k2.lake.appends.commit import Committer, FencedError
from k2.lake.catalog import LastingCatalog, open_named
from k2.lake.payloads import PausedError
from k2.lake.proof.audit import audit_table
from k2.lake.reachable import ask_catalog, ask_store
from k2.lake.tables import ensure_tables
from k2.model.settings import Settings
from k2.model.tables import builtin_table
from k2.model.topics import DataType

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = RestCatalog(tmp_path_factory.mktemp("rest"))
    yield server
    server.close()


@pytest.fixture
def proxy(server):
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def catalog(proxy):
    catalog = open_named("rest", {"type": "rest", "uri": proxy.uri})
    if catalog.table_exists(TRADES):
        catalog.drop_table(TRADES)
    ensure_tables(catalog, [builtin_table(DataType.TRADES)])
    return catalog


def test_lost_and_repeated_commits_leave_each_row_once_and_the_table_readable(catalog, proxy):
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    proxy.faults = [None, "lost", "again", None, "again", "lost"]
    for number in range(6):
        done = committer.commit(batch(number * 10, number * 10 + 10))
        assert done.rows == 10
    assert proxy.met == ["lost", "again", "again", "lost"]
    assert held(catalog) == {(0, offset): 1 for offset in range(60)}
    assert audit_table(catalog.load_table(TRADES), {}).ok


def test_two_consumers_on_a_rest_catalog_fence_each_other(catalog):
    first = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    second = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    first.commit(batch(0, 10))
    second.commit(batch(10, 20))
    with pytest.raises(FencedError):
        first.commit(batch(10, 15))
    first.commit(batch(20, 30))
    assert held(catalog) == {(0, offset): 1 for offset in range(30)}


def test_the_control_without_the_guard_breaks_the_table(catalog, proxy):
    class Unguarded(Committer):
        def _guard(self, table):
            table.metadata.properties["commit.retry.num-retries"] = "0"

    proxy.faults = ["again"]
    Unguarded(catalog, TRADES, ORIGIN, DataType.TRADES).commit(batch(0, 10))
    with pytest.raises(FileNotFoundError):
        held(catalog)


def test_a_rest_catalog_is_asked_for_its_namespaces_and_its_store_by_way_of_a_table(catalog, proxy):
    properties = {"type": "rest", "uri": proxy.uri}
    ask_catalog("rest", properties)
    assert ask_store("rest", properties, TRADES)
    assert not ask_store("rest", properties, None)
    assert not ask_store("rest", properties, "market_data.not_there")


def test_a_committer_takes_the_token_that_its_secret_holds_by_now(catalog, proxy, tmp_path):
    secret = MountedSecret(tmp_path / "secret", {"token": "first"})
    proxy.authorization = "Bearer first"
    settings = Settings(catalog_properties={"type": "rest", "uri": proxy.uri}, catalog_secret_dir=secret.folder)
    committer = Committer(LastingCatalog(settings), TRADES, ORIGIN, DataType.TRADES)
    committer.commit(batch(0, 10))
    proxy.authorization = "Bearer second"
    with pytest.raises(PausedError):  # a sink holds its batch and tries again
        committer.commit(batch(10, 20))
    secret.write({"token": "second"})

    def committed():
        with suppress(PausedError):
            return committer.commit(batch(10, 20))

    assert until(committed, "the new token is not taken").rows == 10
    assert held(catalog_of(proxy, "second")) == {(0, offset): 1 for offset in range(20)}


def catalog_of(proxy, token):
    return open_named("rest", {"type": "rest", "uri": proxy.uri, "token": token})
