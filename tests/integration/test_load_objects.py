"""Files of a load in an S3 store: one, those below a prefix, those of a pattern; a real MinIO."""

import json

import pytest
import typer
from k2_testing.guarded import Store
from pyarrow.fs import S3FileSystem
from typer.testing import CliRunner

from k2 import cli_load
from k2.feeds.load import objects
from k2.model.errors import UserError

pytestmark = pytest.mark.real

PASSWORD = "first-password"
ROWS = {name: f"03/10/2014,10:00:0{at}.123,36.5,100,0,,\n" for at, name in enumerate("abcd")}
OBJECTS = {
    "trades/2014/b.csv": ROWS["b"],
    "trades/2014/a b#1.csv": ROWS["a"],
    "trades/2014/10/c.csv": ROWS["c"],
    "trades/2014/_done.csv": "no data",
    "trades/2014/.part/x.csv": "no data",
    "trades/2015/d.csv": ROWS["d"],
    "mixed/a.csv": ROWS["a"],
    "mixed/b.csv": "timestamp,price\n1,2\n",
    "odd/a": ROWS["a"],
    "odd/a.csv": ROWS["a"],
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    running = Store(tmp_path_factory.mktemp("store"))
    running.start(PASSWORD)
    running.make_bucket(PASSWORD)
    files = S3FileSystem(access_key="k2-lake", secret_key=PASSWORD, endpoint_override=running.endpoint)
    for name, text in OBJECTS.items():
        with files.open_output_stream(f"lake/{name}") as file:
            file.write(text.encode())
    yield {"s3.endpoint": running.endpoint, "s3.access-key-id": "k2-lake", "s3.secret-access-key": PASSWORD}
    running.stop()


@pytest.fixture(autouse=True)
def _without_aws(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


def brought(uri, folder, store):
    """What stands in each file that was brought, by its name."""
    path = objects.bring(uri, folder, store)
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return {str(each.relative_to(folder)): each.read_text() for each in files}


@pytest.mark.parametrize(
    ("uri", "names"),
    [
        ("s3://lake/trades/2015/d.csv", ["d.csv"]),
        ("s3://lake/trades/2014/a b#1.csv", ["a b#1.csv"]),
        ("s3://lake/trades/", ["2014/10/c.csv", "2014/a b#1.csv", "2014/b.csv", "2015/d.csv"]),
        ("s3://lake/trades/2014/", ["10/c.csv", "a b#1.csv", "b.csv"]),
        ("s3://lake/trades/2014/*.csv", ["a b#1.csv", "b.csv"]),
        ("s3://lake/trades/201?/[bd].csv", ["2014/b.csv", "2015/d.csv"]),
        ("s3://lake/trades/**/*.csv", ["2014/10/c.csv", "2014/a b#1.csv", "2014/b.csv", "2015/d.csv"]),
    ],
)
def test_a_uri_stands_for_an_object_or_all_below_a_prefix_or_those_of_a_pattern(tmp_path, store, uri, names):
    found = brought(uri, tmp_path, store)
    assert sorted(found) == sorted(names)
    below = objects.base_of(uri) if objects.is_many(uri) else uri.rpartition("/")[0]
    assert found == {name: OBJECTS[f"{below.removeprefix('s3://lake/')}/{name}"] for name in names}


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://lake/trades/2016/", "finds no objects"),
        ("s3://lake/trades/2014/*.parquet", "finds no objects: found '.* objects, none of them meant'"),
        ("s3://lake/trades/2014", "cannot be had: .*A prefix ends with a slash"),
        ("s3://lake/nothing.csv", "cannot be had: .*expected an object"),
        ("s3://other/nothing/", "finds no objects: found 'no bucket other'"),
        ("s3://*/a.csv", "with a bucket's name"),
        ("s3:///a.csv", "with a bucket's name"),
    ],
)
def test_what_is_not_there_is_said(tmp_path, store, uri, said):
    with pytest.raises(UserError, match=said):
        objects.bring(uri, tmp_path, store)


@pytest.mark.parametrize("part", ["", ".", "..", "a\0b", "ä" * 128])
def test_a_part_of_a_key_that_no_file_can_be_called_is_none(part):
    assert not objects._is_name(part)
    assert objects._is_name("ä" * 127)


def test_more_than_is_meant_to_be_one_load_is_refused_before_anything_is_brought(tmp_path, store, monkeypatch):
    monkeypatch.setattr(objects, "MOST_OBJECTS", 3)
    with pytest.raises(
        UserError, match=r"stands for too many objects: found '4', expected at most 3\. Load them in parts"
    ):
        objects.bring("s3://lake/trades/", tmp_path, store)
    assert list(tmp_path.iterdir()) == []


def test_a_pattern_is_one_load_whose_files_are_named_by_their_objects(tmp_path, store, monkeypatch):
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("K2_CATALOG_PROPERTIES", json.dumps({"type": "sql", "uri": "sqlite://"} | store))
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_load.register(app)
    rest = ("-e", "ASX", "-s", "BHP", "-f", "asx", "--dry-run", "-o", "json")

    def load(uri):
        return CliRunner().invoke(app, ["load", "trades", uri, *rest])

    found = json.loads(load("s3://lake/trades/**/*.csv").stdout)
    assert (found["read"], found["accepted"]) == (4, 4)
    mixed = load("s3://lake/mixed/").exception
    assert isinstance(mixed, UserError)
    assert "The directory s3://lake/mixed has files of two forms: found 's3://lake/mixed/a.csv (text" in str(mixed)
