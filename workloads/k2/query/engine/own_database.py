"""DuckDB for somebody's own SQL, in their own process: nothing of it is locked, and what may be read is theirs to say.

Its statements run in a thread, so that whoever waits can be told how far they are, and can stop them.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import threading
import weakref
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar, cast

import duckdb
import pyarrow as pa

from k2.model.errors import UserError
from k2.obs.renewed import ClientSettings, Watched
from k2.query.asked.sql_requests import SqlQuery
from k2.query.engine.own_errors import Readable, told
from k2.query.engine.store import attach_object_store, store_access
from k2.query.rows.errors import SqlError
from k2.query.rows.view_sql import name_of

T = TypeVar("T")

_BATCH_ROWS = 65_536
_LOOK_SECONDS = 0.2
_STOP_SECONDS = 0.05

Told = Callable[[float], None]
"""Is called with how many percent of a statement are done, while one waits for it."""


@dataclass(frozen=True, slots=True)
class ViewText:
    """A view: its name, the SQL of its rows, and rows that the SQL reads by their names."""

    name: str
    sql: str
    tails: Mapping[str, pa.Table] = field(default_factory=dict[str, pa.Table])


@dataclass(frozen=True, slots=True)
class SqlRows:
    """The rows of the last statement, read while they are taken. Closing `batches` stops it."""

    schema: pa.Schema
    batches: Generator[pa.RecordBatch]


class OwnDatabase:
    """One DuckDB in memory. Threads may share it: each query has a connection, and views, of its own.

    What a statement makes beside them (a table, a macro) stays until the database is closed. It spills to a folder that is
    deleted then.

    Args:
        memory_limit: as DuckDB writes it; a statement may SET another one.
        store: properties of the object store; they may change.
    """

    def __init__(self, memory_limit: str, *, store: ClientSettings = MappingProxyType({})) -> None:
        self.memory_limit = memory_limit
        self._store = Watched(store)
        self._lock = threading.Lock()
        self._root: duckdb.DuckDBPyConnection | None = None
        self._reads_store = False
        self._running: weakref.WeakSet[_Running] = weakref.WeakSet()
        self._spill: tempfile.TemporaryDirectory[str] | None = None

    def run(
        self, query: SqlQuery, views: list[ViewText], known: Readable, remote: bool, said: Told | None = None
    ) -> SqlRows:
        """Run the statements; the rows of the last one come as they are taken.

        Args:
            query: what is asked.
            views: what it may read.
            known: what is said of it where the SQL is wrong.
            remote: whether they lie in the object store.
            said: is told how far it is.

        Raises:
            SqlError: the SQL is wrong.
            TooLargeError: it needs more memory than the limit.
            WorldError: a file could not be read.
        """
        connection = self._connection(remote=remote)
        running = _Running(connection, known, said)
        with self._lock:
            self._running.add(running)
        try:
            reader = running.awaited(lambda: _begun(connection, query, views))
        except BaseException as error:
            running.close()
            if isinstance(error.__cause__, duckdb.FatalException):  # it answers nothing any more
                self._forget()
            raise
        schema = _each_once(reader.schema)
        return SqlRows(schema, _rows(running, reader, schema))

    def close(self) -> None:
        """Close it and delete what it spilled. Statements under way are stopped."""
        with self._lock:
            running = list(self._running)
        for each in running:
            each.close()
        self._forget()
        with self._lock:
            spill, self._spill = self._spill, None
        if spill is not None:
            spill.cleanup()

    def _forget(self) -> None:
        with self._lock:
            root, self._root, self._reads_store = self._root, None, False
        if root is not None:
            root.close()

    def _connection(self, *, remote: bool) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._root is None:
                self._spill = self._spill or tempfile.TemporaryDirectory(prefix="k2-sql-")
                self._root = _opened(self.memory_limit, self._spill.name)
            if remote and (self._store.look() or not self._reads_store):
                attach_object_store(self._root, store_access(self._store.now))
                self._reads_store = True
            connection = self._root.cursor()
        connection.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false")
        return connection


def _opened(memory_limit: str, spill: str) -> duckdb.DuckDBPyConnection:
    root = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": memory_limit,
            "temp_directory": spill,
            # Nothing is downloaded unless a statement says INSTALL.
            "autoinstall_known_extensions": False,
            # The variables of a Python program, which here are those of this module.
            "python_enable_replacements": False,
        },
    )
    root.execute("SET GLOBAL TimeZone = 'UTC'")
    root.execute("SET GLOBAL parquet_metadata_cache = true")
    return root


def _begun(connection: duckdb.DuckDBPyConnection, query: SqlQuery, views: list[ViewText]) -> pa.RecordBatchReader:
    for name, frame in query.frames.items():
        _register(connection, name, _arrow_of(name, frame))
    for view in views:
        for name, rows in view.tails.items():
            _register(connection, name, rows)
        connection.execute(f"CREATE TEMP VIEW {name_of(view.name)} AS {view.sql}")
    values = dict(query.values) if isinstance(query.values, Mapping) else list(query.values)
    done = cast("duckdb.DuckDBPyConnection | None", connection.execute(query.text, values))
    if done is None:
        raise SqlError(
            "There is no statement in the query, only comments", remedy="Write one, such as FROM trades LIMIT 10."
        )
    return done.to_arrow_reader(_BATCH_ROWS)


def _register(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    """Make rows readable by a name.

    Their times with a zone are handed over as numbers: DuckDB gives conditions on such columns (of a join, too) to Arrow by way of
    a module that K2 does not bring.
    """
    zoned = [each.name for each in rows.schema if pa.types.is_timestamp(each.type) and each.type.tz is not None]
    for column in zoned:
        us = rows[column].cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64())
        rows = rows.set_column(rows.schema.get_field_index(column), column, us)
    plain = f"k2_numbers_of_{name}" if zoned else name
    connection.register(plain, rows)
    if zoned:
        times = ", ".join(f"make_timestamptz({name_of(column)}) AS {name_of(column)}" for column in zoned)
        connection.execute(f"CREATE TEMP VIEW {name_of(name)} AS SELECT * REPLACE ({times}) FROM {name_of(plain)}")


def _arrow_of(name: str, frame: Any) -> pa.Table:
    try:
        if hasattr(frame, "to_arrow") and not isinstance(frame, pa.Table):  # polars
            frame = frame.to_arrow()
        # Of pandas an index is no column.
        return pa.table(frame.reset_index(drop=True) if hasattr(frame, "reset_index") else frame)
    except (TypeError, ValueError, AttributeError, pa.ArrowException) as error:
        raise UserError(
            f"The frame {name} cannot be read",
            found=type(frame).__name__,
            expected="an Arrow table, or a data frame of pandas or polars",
        ) from error


def _each_once(schema: pa.Schema) -> pa.Schema:
    """The columns with names that are each there once: a, a_1, a_2. SQL may give several the same."""
    names: list[str] = []
    for name in schema.names:
        free = (f"{name}_{number}" if number else name for number in itertools.count())
        names.append(next(each for each in free if each not in names))
    return pa.schema([field.with_name(name) for field, name in zip(schema, names, strict=True)])


def _rows(running: _Running, reader: pa.RecordBatchReader, schema: pa.Schema) -> Generator[pa.RecordBatch]:
    try:
        while (batch := running.awaited(lambda: next(reader, None))) is not None:
            yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
    finally:
        running.close()


class _Running:
    """A statement under way on a connection of its own, and the thread that works for it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, known: Readable, said: Told | None) -> None:
        self._connection, self._known, self._said = connection, known, said
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="k2-sql")
        self._doing: Future[Any] | None = None

    def awaited(self, work: Callable[[], T]) -> T:
        """Do it there and wait; whatever ends the waiting (Ctrl-C) stops it."""
        doing = self._doing = self._thread.submit(work)
        try:
            while not wait([doing], _LOOK_SECONDS).done:
                if self._said is not None:
                    self._said(max(0.0, self._connection.query_progress()))
            return doing.result()
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise told(error, self._known) from error
        except BaseException:
            while not doing.done():  # DuckDB forgets an interrupt that comes a moment before its query begins
                self._connection.interrupt()
                wait([doing], _STOP_SECONDS)
            raise

    def close(self) -> None:
        """Stop it and let go of the connection. More than once is as good."""
        self._thread.shutdown(wait=False)
        with contextlib.suppress(duckdb.ConnectionException):  # it was closed before
            while self._doing is not None and not self._doing.done():
                self._connection.interrupt()
                wait([self._doing], _STOP_SECONDS)
            self._connection.close()
        self._thread.shutdown()
