"""DuckDB: runs statements, within limits. The only home of `duckdb`; knows no question."""
