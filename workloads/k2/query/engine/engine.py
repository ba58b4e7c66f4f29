"""Queries over the tables' files: a pool of DuckDB connections for short ones, a database beside it for long ones, and deadlines.

No SQL comes from users: the texts are built from constants (`rows/sql.py`), values are bound.
"""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import duckdb
import pyarrow as pa

from k2.model.errors import K2Error, UserError
from k2.model.locations import local_path
from k2.obs import metrics
from k2.obs.logging import get_logger
from k2.obs.renewed import ClientSettings, Watched
from k2.obs.tally import count_files, tally
from k2.obs.traces import Span, span
from k2.query.engine.background import Background
from k2.query.engine.caller import CALLER
from k2.query.engine.database import Database, Limits, half
from k2.query.engine.store import store_access
from k2.query.engine.unreadable import unreadable
from k2.query.rows.adjusted import TOO_LARGE
from k2.query.rows.errors import AbandonedError, EngineBusyError, QueryTimeoutError, TooLargeError
from k2.query.rows.statement import TAIL, Statement

LARGE_BYTES = 256 * 1024 * 1024
"""Statements over more than so many bytes of files are long: half as many of them run at a time as there are connections."""

_ROWS_AT_ONCE = 1_000_000
"""Rows of a batch, where the whole answer is read at once."""

_log = get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Lease:
    """A connection at work. The watchdog interrupts it only while this lease holds it, never the next user's query."""

    connection: duckdb.DuckDBPyConnection
    deadline: float
    expired: bool = False
    abandoned: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _active: bool = True

    def expire(self) -> None:
        with self._lock:
            if self._active:
                self.expired = True
                self.connection.interrupt()

    def abandon(self) -> None:
        """Stop the query: nobody waits for its answer."""
        with self._lock:
            if self._active:
                self.abandoned = True
                self.connection.interrupt()

    def release(self) -> None:
        with self._lock:
            self._active = False


class _Watchdog:
    """Expires leases that are past their deadline.

    It looks around by itself: to start a timer for each query would cost as much as many a query does.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._leases: set[_Lease] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._pause = min(0.25, max(0.01, timeout_seconds / 10))
        threading.Thread(target=self._run, name="k2-query-watchdog", daemon=True).start()

    def watch(self, lease: _Lease) -> None:
        with self._lock:
            self._leases.add(lease)

    def forget(self, lease: _Lease) -> None:
        with self._lock:
            self._leases.discard(lease)

    def close(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            now = time.monotonic()
            with self._lock:
                # Until it ends, again and again: DuckDB forgets an interrupt that comes a moment before its query begins.
                due = [lease for lease in self._leases if lease.deadline <= now]
            for lease in due:
                lease.expire()


class Engine:
    """Runs SQL over Parquet files. Threads share it; at most `limits.connections` short queries run at a time.

    What is long (a stream, a statement over `LARGE_BYTES`) has a database of its own, whose threads give way to the others.
    """

    def __init__(self, limits: Limits, *, store: ClientSettings = MappingProxyType({})) -> None:
        self.limits = limits
        self.background = Background(limits.connections)
        self._store = Watched(store)
        self._access = store_access(self._store.now)
        self._lock = threading.Lock()
        self._short: Database | None = None
        self._long: Database | None = None
        self._large = threading.BoundedSemaphore(max(1, limits.connections // 2))
        self._spill = tempfile.TemporaryDirectory(prefix="k2-query-")
        self._watchdog = _Watchdog(limits.timeout_seconds)
        metrics.QUERY_CONNECTIONS.set(limits.connections)

    @property
    def timeout_seconds(self) -> float:
        """How long a statement may run."""
        return self.limits.timeout_seconds

    def close(self) -> None:
        """Close the connections and delete what was spilled to disk. Queries under way are stopped."""
        self._watchdog.close()
        self.background.close()
        with self._lock:
            for database in (self._short, self._long):
                if database is not None:
                    database.close()
            self._short = self._long = None
        self._spill.cleanup()

    def fetch(self, label: str, statement: Statement) -> pa.Table:
        """Run a statement and give its rows; `label` is the kind of question, for metrics and messages.

        Raises:
            QueryTimeoutError: it ran over its deadline; it was stopped and the connection is well.
            EngineBusyError: no connection came free before the deadline.
            TooLargeError: it needed more memory than the limit.
            WorldError: a file could not be read.
        """
        if statement.planned_bytes > LARGE_BYTES:
            with self._lane(label):
                return self.background.run(lambda: self._fetch_long(label, statement))
        with self._lease(label, statement.roots) as lease, self._watched(label, lease):
            _count(statement)
            return _rows(label, lease.connection, statement)

    def stream(self, label: str, statement: Statement, *, batch_rows: int) -> Generator[pa.RecordBatch]:
        """Run a statement and give its rows in batches; each has the deadline anew, so a slow reader costs nothing.

        The stream has a connection of its own, outside the pool: a replay of days does not keep questions waiting.
        Raises as `fetch` does.
        """
        with (
            _scan(label, statement, current=False),
            self._open_long(statement.roots).dedicated() as connection,
            _reading(connection, statement),
        ):
            lease = self._start(connection)
            _count(statement)
            with self._watched(label, lease):
                reader = connection.execute(statement.sql, dict(statement.params)).to_arrow_reader(batch_rows)
            while True:
                lease = self._start(connection)
                with self._watched(label, lease):
                    batch = next(reader, None)
                if batch is None:
                    return
                yield batch

    def ahead(self, readings: Iterator[Generator[pa.RecordBatch]]) -> Generator[pa.RecordBatch]:
        """What the streams give, one after the other, the next one begun while one is taken: see `Background.chain`."""
        return self.background.chain(readings)

    def _fetch_long(self, label: str, statement: Statement) -> pa.Table:
        with (
            self._open_long(statement.roots).dedicated() as connection,
            self._watched(label, self._start(connection)),
        ):
            _count(statement)
            return _rows(label, connection, statement)

    @contextmanager
    def _lane(self, label: str) -> Generator[None, None, None]:
        if not self._large.acquire(timeout=self.limits.timeout_seconds):
            raise EngineBusyError(
                f"Other large queries ran for {self.limits.timeout_seconds:g} s: the {label} query was not started. "
                "Ask again later, or for a shorter time range"
            )
        try:
            yield
        finally:
            self._large.release()

    def _start(self, connection: duckdb.DuckDBPyConnection) -> _Lease:
        return _Lease(connection, time.monotonic() + self.limits.timeout_seconds)

    @contextmanager
    def _lease(self, label: str, roots: tuple[str, ...]) -> Generator[_Lease, None, None]:
        started = time.monotonic()
        database = self._open(roots)
        try:
            connection = database.idle.get(timeout=self.limits.timeout_seconds)
        except queue.Empty:
            raise EngineBusyError(
                f"All {self.limits.connections} connections were busy for {self.limits.timeout_seconds:g} s: "
                f"the {label} query was not started. Ask again later"
            ) from None
        waited = time.monotonic() - started
        metrics.QUERY_WAIT.observe(waited)
        tally().wait_seconds += waited
        metrics.QUERY_CONNECTIONS_BUSY.inc()
        try:
            yield _Lease(connection, started + self.limits.timeout_seconds)
        finally:
            metrics.QUERY_CONNECTIONS_BUSY.dec()
            database.idle.put(connection)

    @contextmanager
    def _watched(self, label: str, lease: _Lease) -> Generator[None, None, None]:
        self._watchdog.watch(lease)
        caller = CALLER.get()
        began = time.perf_counter()
        try:
            with nullcontext() if caller is None else caller.awaits(lease):
                yield
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise self._told(label, lease, error) from error
        finally:
            lease.release()
            self._watchdog.forget(lease)
            took = time.perf_counter() - began
            metrics.QUERY_SCAN_DURATION.labels(label).observe(took)
            tally().scan_seconds += took

    def _told(self, label: str, lease: _Lease, error: Exception) -> K2Error:
        """What went wrong. From a reader DuckDB's errors come through Arrow, which keeps no more than their text."""
        if isinstance(error, duckdb.InterruptException) or str(error).startswith("INTERRUPT Error"):
            if lease.abandoned:
                metrics.QUERY_ABANDONED.labels(label).inc()
                return AbandonedError(f"The {label} query was stopped because the client went away")
            metrics.QUERY_TIMEOUTS.labels(label).inc()
            if not lease.expired:
                return EngineBusyError(f"The {label} query was stopped because the service is closing")
            return QueryTimeoutError(
                f"The {label} query was stopped after {self.limits.timeout_seconds:g} s. Ask for a shorter time "
                "range or fewer rows"
            )
        if isinstance(error, duckdb.OutOfMemoryException) or str(error).startswith("Out of Memory Error"):
            return TooLargeError(
                f"The {label} query needs more memory than a query may take",
                expected=f"at most {half(self.limits.memory_limit)}",
                remedy="Ask for a shorter time range or fewer rows",
            )
        if TOO_LARGE in str(error):
            return UserError(TOO_LARGE, expected="amounts that their columns hold", remedy="Ask without adjusted")
        # DuckDB's own words have paths of this server and SQL in them: they are for the log.
        _log.warning("query.files_unreadable", query=label, error=str(error))
        return unreadable(label, str(error))

    def _open(self, roots: tuple[str, ...]) -> Database:
        with self._lock:
            self._short = self._with(self._short, roots, self.limits.connections)
            return self._short

    def _open_long(self, roots: tuple[str, ...]) -> Database:
        def open_here() -> Database:
            with self._lock:
                self._long = self._with(self._long, roots, 0)
                return self._long

        with self._lock:
            if self._long is not None and self._fits(self._long, roots):
                return self._long
        # DuckDB's threads have the priority of the one that opened it.
        return self.background.run(open_here)

    def _with(self, database: Database | None, roots: tuple[str, ...], connections: int) -> Database:
        if database is not None and self._fits(database, roots):
            return database
        # Queries under way keep the old database until they end; its connections die with it.
        known = frozenset[str]() if database is None else database.roots
        limits = replace(self.limits, connections=connections)
        return Database(limits, known.union(map(local_path, roots)), Path(self._spill.name), self._access)

    def _fits(self, database: Database, roots: tuple[str, ...]) -> bool:
        """Whether it may read these directories, with the credentials of now. Callers hold the lock."""
        if self._store.look():
            self._access = store_access(self._store.now)
        return database.access == self._access and database.reads(roots)


def _count(statement: Statement) -> None:
    for each in statement.reads:
        count_files(each.table, each.files, each.left_out)


def _rows(label: str, connection: duckdb.DuckDBPyConnection, statement: Statement) -> pa.Table:
    with _scan(label, statement) as told, _reading(connection, statement):
        # A third of a millisecond sooner than `to_arrow_table` for a thousand rows of fifteen columns (measured, duckdb 1.5).
        reader = connection.execute(statement.sql, dict(statement.params)).to_arrow_reader(_ROWS_AT_ONCE)
        rows = reader.read_all()
        told.set({"k2.rows": rows.num_rows})
        return rows


def _scan(label: str, statement: Statement, *, current: bool = True) -> Span:
    files = sum(len(each.files) for each in statement.reads)
    of_statement = {"k2.query": label, "k2.files": files, "k2.bytes_planned": statement.planned_bytes}
    return span("scan", of_statement, current=current)


@contextmanager
def _reading(connection: duckdb.DuckDBPyConnection, statement: Statement) -> Generator[None, None, None]:
    """Let the statement see its tail, which no other connection does."""
    tails = dict(statement.tails) if statement.tail is None else {**statement.tails, TAIL: statement.tail}
    for name, rows in tails.items():
        connection.register(name, rows)
    try:
        yield
    finally:
        for name in tails:
            connection.unregister(name)
