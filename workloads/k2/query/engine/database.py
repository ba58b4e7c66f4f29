"""One DuckDB that can read the tables' files and nothing else: its configuration is locked once the directories are known."""

from __future__ import annotations

import queue
import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from k2.model.locations import is_remote, local_path
from k2.query.engine.store import attach_object_store

# Nothing that a query could use to reach out of the tables' files or to change these limits.
_LOCKED: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_unsigned_extensions": False,
    "python_enable_replacements": False,
    "python_scan_all_frames": False,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What queries may take: connections (one query each), threads, memory of all together, seconds of each."""

    connections: int = 4
    threads: int = 2
    memory_limit: str = "2GB"
    timeout_seconds: float = 30.0


class Database:
    """One DuckDB instance, locked down to its roots, and its idle connections. It may take half of the memory: there are two."""

    def __init__(self, limits: Limits, roots: frozenset[str], spill: Path, store: Mapping[str, str]) -> None:
        self.roots, self.access = roots, store
        self.idle: queue.LifoQueue[duckdb.DuckDBPyConnection] = queue.LifoQueue()
        root = duckdb.connect(
            ":memory:",
            config={
                **_LOCKED,
                "threads": limits.threads,
                "memory_limit": half(limits.memory_limit),
                "temp_directory": str(spill),
            },
        )
        if any(is_remote(path) for path in roots):
            attach_object_store(root, store, limits.timeout_seconds)
        root.execute("SET GLOBAL TimeZone = 'UTC'")
        # Footers of data files never change: reading each once is most of a small query's time.
        root.execute("SET GLOBAL parquet_metadata_cache = true")
        root.execute("SET allowed_directories = $roots", {"roots": sorted(roots)})
        root.execute("SET enable_external_access = false")
        root.execute("SET lock_configuration = true")
        self._root = root
        self._all = [root.cursor() for _ in range(limits.connections)]
        for connection in self._all:
            self.idle.put(connection)

    def reads(self, roots: Iterable[str]) -> bool:
        """Whether files in these directories may be read."""
        return self.roots.issuperset(map(local_path, roots))

    @contextmanager
    def dedicated(self) -> Generator[duckdb.DuckDBPyConnection, None, None]:
        """A connection outside the pool, closed at the end."""
        connection = self._root.cursor()
        try:
            yield connection
        finally:
            connection.close()

    def close(self) -> None:
        """Stop what runs, close everything."""
        for connection in self._all:
            connection.interrupt()
            connection.close()
        self._root.close()


def half(limit: str) -> str:
    """Half of a size as DuckDB writes it ("2GB"); what is no such size stays as it is, for DuckDB to judge."""
    size = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]i?B)\s*", limit, re.IGNORECASE)
    return f"{float(size[1]) / 2}{size[2]}" if size else limit
