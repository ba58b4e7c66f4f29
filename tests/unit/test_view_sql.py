"""A relation as the text of a view: whole in itself, whatever its files and columns are called."""

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2.lake.reader import ColumnInfo
from k2.lake.scan import DataFileRef
from k2.query.rows.relation import Relation, TableRows
from k2.query.rows.view_sql import text_of

COLUMNS = (ColumnInfo(1, "$files", "string", stable=True), ColumnInfo(2, 'a "b"', "long", stable=True))


def relation_of(folder, names, tail=None):
    files = []
    for number, name in enumerate(names):
        path = folder / f"{name}.parquet"
        pq.write_table(pa.table({"$files": ["file"], 'a "b"': [number]}), path)
        files.append(DataFileRef(f"file://{path}", 1, 1, 0, 0, (None, None), (None, None)))
    table = TableRows("market_data.trades", COLUMNS, (f"file://{folder}/",), len(files))
    return Relation((table,), COLUMNS, tuple(files), tail=tail)


def rows_of(relation, tail="k2_rest"):
    with duckdb.connect() as connection:
        if relation.tail is not None:
            connection.register(tail, relation.tail)
        connection.execute(f"CREATE TEMP VIEW trades AS {text_of(relation, tail)}")
        return connection.execute('SELECT * FROM trades ORDER BY "a ""b"""').to_arrow_table()


def test_quotes_and_dollars_in_names_are_no_part_of_the_sql(tmp_path):
    folder = tmp_path / "it's $files FROM k2_tail)"
    folder.mkdir()
    rows = rows_of(relation_of(folder, ["one", "$left_0", "it''s"]))
    assert rows.to_pydict() == {"$files": ["file"] * 3, 'a "b"': [0, 1, 2]}


@pytest.mark.parametrize("names", [[], ["one", "two"]])
def test_rows_that_no_file_has_are_beside_those_of_the_files(tmp_path, names):
    tail = pa.table({"$files": ["tail"], 'a "b"': pa.array([9], pa.int32())})
    rows = rows_of(relation_of(tmp_path, names, tail))
    assert rows['a "b"'].to_pylist() == [*range(len(names)), 9]
    assert rows["$files"].to_pylist()[-1] == "tail"
    assert rows['a "b"'].type == pa.int64()


def test_without_anything_to_read_there_are_the_columns(tmp_path):
    rows = rows_of(relation_of(tmp_path, []))
    assert (rows.num_rows, rows.schema.names) == (0, ["$files", 'a "b"'])
    assert rows['a "b"'].type == pa.int64()
