"""What the service says of a table whose metadata is gone or broken, and of a catalog that is none: and the other tables answer."""

import pytest
from k2_testing.committed import QUOTES, committed_lake
from k2_testing.lake import TRADES
from k2_testing.service import problem, serving

ROUTES = (
    "/v1/trades?symbol=BHP",
    "/v1/symbols",
    "/v1/stats",
    "/v1/bars?symbol=BHP&date=2026-03-02",
    "/v1/date-range?symbol=BHP",
    "/v1/audit?table=trades",
)


@pytest.fixture
def lake(tmp_path):
    return committed_lake(tmp_path, 30, 3)


def files_of_metadata(lake, tmp_path, identifier, kind):
    if kind == "table":
        return [tmp_path / lake.load_table(identifier).metadata_location.split(f"{tmp_path}/", 1)[1]]
    return list((tmp_path / "warehouse").rglob(f"{identifier.rpartition('.')[2]}/metadata/*.avro"))


@pytest.mark.parametrize("damage", ["gone", "cut"])
@pytest.mark.parametrize("kind", ["table", "manifests"])
def test_metadata_that_is_gone_or_broken_is_told_of_its_table_alone_without_a_path(lake, tmp_path, kind, damage):
    files = files_of_metadata(lake, tmp_path, TRADES, kind)
    assert files
    with serving(tmp_path) as client:
        for file in files:
            file.unlink() if damage == "gone" else file.write_bytes(file.read_bytes()[:100])
        for route in ROUTES:
            reply = client.get(route)
            found = problem(reply, 500)
            assert (route, found["type"]) == (route, "urn:k2:problem:damaged-file")
            assert TRADES in found["detail"]
            assert "Retry-After" not in reply.headers
            assert str(tmp_path) not in reply.text
            other = client.get("/v1/quotes?symbol=BHP")
            assert (other.status_code, "incomplete" in other.json()) == (200, False), other.text
        assert client.get("/v1/audit?table=quotes").json()["tables"][0]["table"] == QUOTES


def test_a_catalog_that_is_none_is_told_of_without_its_path_and_without_sql(lake, tmp_path):
    (tmp_path / "catalog.db").write_bytes(b"no database at all" * 1000)
    with serving(tmp_path) as client:
        for route in ROUTES:
            reply = client.get(route)
            problem(reply, 503)
            assert str(tmp_path) not in reply.text
            assert "SELECT" not in reply.text
            assert "catalog" in reply.text
        ready = client.get("/ready")
        assert ready.status_code == 503
        assert str(tmp_path) not in ready.text
        assert "SELECT" not in ready.text
