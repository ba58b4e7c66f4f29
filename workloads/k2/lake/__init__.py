"""Iceberg: tables, Arrow conversion, exactly-once commits, snapshots. The only package that imports `pyiceberg`."""
