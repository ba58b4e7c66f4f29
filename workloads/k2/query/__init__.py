"""Questions and answers: DuckDB over the files of one Iceberg snapshot. The only package that imports `duckdb`."""
