"""What a client is told of the world's errors: no path of the server and no SQL, and all else as it is."""

import pytest

from k2.forms.told import told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Failed to open local file '/srv/k2/warehouse/trades/data/1.parquet'", "Failed to open local file '1.parquet'"),
        ("[Errno 2] No such file: file:///srv/k2/00001.metadata.json", "[Errno 2] No such file: 00001.metadata.json"),
        ("The catalog 'k2' (sqlite:////srv/k2/catalog.db?timeout=5) is none", "The catalog 'k2' (catalog.db?timeout=5) is none"),
        (
            "(sqlite3.OperationalError) no such table: iceberg_tables\n[SQL: SELECT a \nFROM b]\n(Background on this error at: x)",
            "(sqlite3.OperationalError) no such table: iceberg_tables",
        ),
        ("(sqlite3.OperationalError) locked\n(Background on this error at: https://x)", "(sqlite3.OperationalError) locked"),
        ("http://10.0.0.1:8181/v1/config does not answer", "http://10.0.0.1:8181/v1/config does not answer"),
        ("s3://bucket/warehouse/1.parquet is away, and/or slow", "s3://bucket/warehouse/1.parquet is away, and/or slow"),
        ("Ask /v1/stats. 1/2 of it", "Ask /v1/stats. 1/2 of it"),
    ],
)  # fmt: skip
def test_folders_and_statements_are_left_out(text, expected):
    assert told(text) == expected
