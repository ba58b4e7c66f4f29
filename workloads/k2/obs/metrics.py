"""Every Prometheus metric of the data plane, in one place: name, unit, labels.

Names start with `k2_` and end in a base unit. Labels take their values from configuration (topics, tables, exchanges)
or from short fixed lists in this file; never from data (symbols, ids, error texts), which would grow without bound.
Which process shows which is said at the end; whoever counts failures starts the counter at zero.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from k2.obs.column_histogram import ColumnHistogram

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SLOW = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_ROWS = (0, 100, 1_000, 10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000)

# --- feeds: from a source to events ---------------------------------------------------------------------------------
FEED_EVENTS = Counter("k2_feed_events_total", "Events that a source gave.", ("exchange", "data_type"))
FEED_REJECTED = Counter("k2_feed_rejected_rows_total", "Rows of a source that are no event.", ("exchange", "data_type"))
FEED_CONNECTIONS = Gauge("k2_feed_connections", "Connections to an exchange that stand.", ("exchange",))
FEED_CONNECTION_FAILURES = Counter(
    "k2_feed_connection_failures_total", "Tries to connect to an exchange that failed.", ("exchange",)
)
DISCONNECTION_REASONS = (
    "announced",
    "closed",
    "error",
    "full",
    "planned",
    "refused",
    "silent",
    "stopped",
    "stream",
)
FEED_DISCONNECTIONS = Counter(
    "k2_feed_disconnections_total",
    "Connections to an exchange that ended, by reason: closed, error and silent ended by themselves; announced, planned, refused and "
    "stream (one of its streams was dead) were exchanged for another one; full: Kafka was too slow, so that hearing more would only "
    "have taken memory; stopped.",
    ("exchange", "reason"),
)
MESSAGE_OUTCOMES = ("read", "unknown", "unreadable")
FEED_MESSAGES = Counter(
    "k2_feed_messages_total",
    "Messages of an exchange: read, unknown (an event that K2 does not know), unreadable (a dead letter).",
    ("exchange", "outcome"),
)
FEED_WAITING = Gauge("k2_feed_waiting_messages", "Events that were heard and wait to be sent to Kafka.", ("exchange",))
FEED_CLOCK_DIFFERENCE = Gauge(
    "k2_feed_clock_difference_seconds",
    "Our clock less the exchange's, and what the fastest message of the last seconds took: 0.02 is well, 300 is a wrong clock.",
    ("exchange",),
)
FEED_MISSING_TRADES = Gauge("k2_feed_missing_trades", "Trades that are known to be missing now.", ("exchange",))
FEED_OLDEST_GAP = Gauge(
    "k2_feed_oldest_gap_seconds", "For how long the oldest of them has been missing; 0: none is.", ("exchange",)
)
GAP_OUTCOMES = ("filled", "unfillable", "dead_lettered")
FEED_GAP_TRADES = Counter(
    "k2_feed_gap_trades_total",
    "Trades that were missing, by what became of them: filled, unfillable (the exchange has not got them), dead_lettered.",
    ("exchange", "outcome"),
)
FEED_UNKNOWN_TIMES = Counter(
    "k2_feed_unknown_times_total",
    "Times, by symbol, in which nothing was heard where an exchange's numbers do not tell what was missed.",
    ("exchange",),
)

# --- bus: Kafka -----------------------------------------------------------------------------------------------------
PRODUCED = Counter("k2_kafka_messages_produced_total", "Messages that the brokers acknowledged.", ("topic",))
PRODUCED_BYTES = Counter("k2_kafka_produced_bytes_total", "Payload bytes that the brokers acknowledged.", ("topic",))
PRODUCE_ERRORS = Counter(
    "k2_kafka_produce_errors_total",
    "Messages that were given up, by kind of error: timed_out, not_authorized, too_large, too_few_replicas, other.",
    ("topic", "error"),
)
PRODUCE_QUEUE_FULL = Counter(
    "k2_kafka_produce_queue_full_total", "Times that the producer's queue was full.", ("topic",)
)
PRODUCE_QUEUE = Gauge("k2_kafka_produce_queue_messages", "Messages that wait for their acknowledgement.", ("topic",))
CONSUMED = Counter("k2_kafka_messages_consumed_total", "Messages taken from a topic.", ("topic",))
CONSUMED_BYTES = Counter("k2_kafka_consumed_bytes_total", "Payload bytes taken from a topic.", ("topic",))
REBALANCES = Counter("k2_kafka_rebalances_total", "Assignments of partitions given or taken.", ("topic", "change"))
DEAD_LETTERS = Counter(
    "k2_dead_letters_total", "Messages moved to the dead-letter topic, by class of reason.", ("topic", "reason")
)
DUPLICATES = Counter("k2_duplicates_total", "Events whose id the table or the batch had already.", ("table",))

# --- lake: Iceberg --------------------------------------------------------------------------------------------------
ROWS_WRITTEN = Counter("k2_iceberg_rows_written_total", "Rows committed.", ("table",))
BYTES_WRITTEN = Counter("k2_iceberg_bytes_written_total", "Bytes of data files committed.", ("table",))
FILES_WRITTEN = Counter("k2_iceberg_files_written_total", "Data files committed.", ("table",))
WRITE_DURATION = Histogram(
    "k2_iceberg_write_duration_seconds", "From a batch to its snapshot: files and commit.", ("table",), buckets=_SLOW
)
COMMIT_DURATION = Histogram(
    "k2_iceberg_commit_duration_seconds",
    "The transaction alone, of commits that went through.",
    ("table",),
    buckets=_SLOW,
)
COMMIT_OUTCOMES = ("committed", "landed", "conflict", "unanswered", "fenced", "paused", "failed")
COMMITS = Counter(
    "k2_iceberg_commits_total",
    "Tries to commit by outcome: committed, landed (the reply was lost, the commit was not), conflict (another one came "
    "first), unanswered (the catalog or the store failed; it is tried again), fenced (another sink has the partitions), "
    "paused (the table takes none as it is), failed (given up).",
    ("table", "outcome"),
)
SNAPSHOTS = Gauge("k2_iceberg_snapshots", "Snapshots that the table holds.", ("table",))
SNAPSHOTS_EXPIRED = Counter("k2_iceberg_snapshots_expired_total", "Snapshots dropped from the metadata.", ("table",))

# --- sink: from bus to lake -----------------------------------------------------------------------------------------
SINK_BATCH_ROWS = Histogram("k2_sink_batch_rows", "Rows of a batch.", ("table",), buckets=_ROWS)
SINK_BUFFERED = Gauge("k2_sink_buffered_bytes", "Payload bytes held and not yet committed.", ("table",))
RECENT_DEAD = Gauge(
    "k2_sink_recent_dead_messages",
    "Dead letters among the last 10,000 messages that a sink has read, by class of reason.",
    ("topic", "reason"),
)
DEAD_IN_A_ROW = Gauge(
    "k2_sink_dead_in_a_row_messages", "Dead letters since the last message that was none.", ("topic",)
)
SEQUENCE_GAPS = Counter(
    "k2_sequence_gaps_detected_total", "Times that a symbol's sequence jumped ahead.", ("exchange", "data_type")
)
SEQUENCE_MISSING = Counter(
    "k2_sequence_missing_total", "Numbers that symbols' sequences skipped.", ("exchange", "data_type")
)
SEQUENCE_RESETS = Counter(
    "k2_sequence_resets_total", "Times that a symbol's sequence began anew.", ("exchange", "data_type")
)
OUT_OF_ORDER = Counter(
    "k2_out_of_order_events_total",
    "Events whose sequence number was not above all before it, of their symbol.",
    ("exchange", "data_type"),
)
SINK_HELD_UP = Gauge(
    "k2_sink_held_up",
    "1 while something keeps a sink from bringing events into its table, by kind: decision (a person decides), dead_letters, "
    "table, access, registry, commit, parts.",
    ("topic", "reason"),
)
SINK_LAG = Gauge(
    "k2_sink_lag_messages",
    "Messages between the table's offsets and the topic's ends, of the sink's partitions; of all while it waits for its table.",
    ("topic",),
)
SINK_LAST_COMMIT = Gauge(
    "k2_sink_last_commit_timestamp_seconds", "When the last commit was made, Unix time.", ("table",)
)
SINK_NEWEST_EVENT = Gauge(
    "k2_sink_newest_event_timestamp_seconds", "Time of the newest event committed, Unix time.", ("table",)
)
SINK_FRESHNESS = ColumnHistogram(
    "k2_sink_freshness_seconds",
    "From the time that K2 received an event to the snapshot that holds it.",
    ("table",),
    buckets=(1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0),
)

# --- query ----------------------------------------------------------------------------------------------------------
QUERY_EXECUTIONS = Counter(
    "k2_query_executions_total",
    "Queries by kind and outcome: ok, user_error, timeout, busy, abandoned, error.",
    ("query", "outcome"),
)
QUERY_DURATION = Histogram(
    "k2_query_duration_seconds", "From the request to the rows, planning included.", ("query",), buckets=_FAST
)
QUERY_ROWS = Counter("k2_query_rows_returned_total", "Rows that queries gave.", ("query",))
QUERY_FILES_SCANNED = Counter("k2_query_files_scanned_total", "Data files that statements read.", ("table",))
QUERY_FILES_SKIPPED = Counter("k2_query_files_skipped_total", "Data files that statements left out.", ("table",))
QUERY_BYTES_PLANNED = Counter(
    "k2_query_planned_bytes_total", "Bytes of the data files that statements read.", ("table",)
)
QUERY_TIMEOUTS = Counter("k2_query_timeouts_total", "Queries stopped at their deadline.", ("query",))
QUERY_ABANDONED = Counter("k2_query_abandoned_total", "Queries stopped because the client went away.", ("query",))
QUERY_CONNECTIONS = Gauge("k2_query_connections", "DuckDB connections of the pool.")
QUERY_CONNECTIONS_BUSY = Gauge("k2_query_connections_busy", "DuckDB connections at work.")
QUERY_WAIT = Histogram("k2_query_wait_seconds", "Wait for a free DuckDB connection.", buckets=_FAST)
PLAN_DURATION = Histogram("k2_query_plan_duration_seconds", "From a snapshot to the files of a query.", buckets=_FAST)
QUERY_SCAN_DURATION = Histogram(
    "k2_query_scan_duration_seconds", "A statement in DuckDB: files read, rows made.", ("query",), buckets=_FAST
)
PLAN_CACHE = Counter(
    "k2_query_plan_cache_total", "Looks into the cache of a snapshot's files: hit or miss.", ("outcome",)
)
TAIL_BYTES = Gauge("k2_tail_bytes", "Memory of the rows that are held beyond the tables' snapshots.")
TAIL_ROWS = Counter("k2_tail_rows_total", "Rows read from topics into tails, duplicates included.", ("topic",))
TAIL_STALE = Gauge("k2_tail_stale_seconds", "Since a table's tail held all that its topics had.", ("table",))

# --- API ------------------------------------------------------------------------------------------------------------
HTTP_REQUESTS = Counter(
    "k2_http_requests_total", "Requests by method, route template and status.", ("method", "route", "status")
)
HTTP_DURATION = Histogram(
    "k2_http_request_duration_seconds",
    "From the request's first byte to the answer's last.",
    ("method", "route"),
    buckets=_FAST,
)
HTTP_RESPONSE_BYTES = Counter("k2_http_response_bytes_total", "Bytes of answers' bodies.", ("route",))
HTTP_IN_PROGRESS = Gauge("k2_http_requests_in_progress", "Requests being answered.")
HTTP_RUNNING = Gauge(
    "k2_http_running_in_progress", "Requests that have their turn: from there to the answer's first byte."
)
HTTP_WAITING = Gauge("k2_http_waiting_in_progress", "Requests that wait for their turn.")
HTTP_SENDING = Gauge("k2_http_sending_in_progress", "Answers that are being sent piece by piece.")
HTTP_STALLED = Counter("k2_http_stalled_total", "Answers given up because the client took nothing of them.", ("route",))
HTTP_REFUSED = Counter(
    "k2_http_refused_total",
    "Requests refused before any work was done, by reason: key, rules, rate, body, encoding, queue, wait, answers, "
    "connections.",
    ("reason",),
)
HTTP_CONNECTIONS = Gauge("k2_http_connections", "Connections of clients, idle ones too.")
HTTP_CONNECTIONS_CLOSED = Counter(
    "k2_http_connections_closed_total",
    "Connections broken off by reason: head, body (took too long), untaken (what was sent), room (for another), refused.",
    ("reason",),
)
KEY_FILE_READS = Counter(
    "k2_api_key_file_reads_total", "Times the changed file of API keys was read: read, failed.", ("outcome",)
)

# --- which process shows which: one that it never sets would only be in the way ---------------------------------------
_OF_SENDERS = (FEED_EVENTS, PRODUCED, PRODUCED_BYTES, PRODUCE_ERRORS, PRODUCE_QUEUE_FULL, PRODUCE_QUEUE)
OF_LOADS = (*_OF_SENDERS, FEED_REJECTED, DEAD_LETTERS)
OF_PRODUCERS = (
    *_OF_SENDERS,
    DEAD_LETTERS,
    FEED_CONNECTIONS,
    FEED_CONNECTION_FAILURES,
    FEED_DISCONNECTIONS,
    FEED_MESSAGES,
    FEED_WAITING,
    FEED_CLOCK_DIFFERENCE,
    FEED_MISSING_TRADES,
    FEED_OLDEST_GAP,
    FEED_GAP_TRADES,
    FEED_UNKNOWN_TIMES,
)
OF_SINKS = (
    CONSUMED,
    CONSUMED_BYTES,
    REBALANCES,
    DEAD_LETTERS,
    DUPLICATES,
    ROWS_WRITTEN,
    BYTES_WRITTEN,
    FILES_WRITTEN,
    WRITE_DURATION,
    COMMIT_DURATION,
    COMMITS,
    SNAPSHOTS,
    SNAPSHOTS_EXPIRED,
    SINK_BATCH_ROWS,
    SINK_BUFFERED,
    RECENT_DEAD,
    DEAD_IN_A_ROW,
    SEQUENCE_GAPS,
    SEQUENCE_MISSING,
    SEQUENCE_RESETS,
    OUT_OF_ORDER,
    SINK_HELD_UP,
    SINK_LAG,
    SINK_LAST_COMMIT,
    SINK_NEWEST_EVENT,
    SINK_FRESHNESS,
)
OF_QUERIES = (
    QUERY_EXECUTIONS,
    QUERY_DURATION,
    QUERY_ROWS,
    QUERY_FILES_SCANNED,
    QUERY_FILES_SKIPPED,
    QUERY_BYTES_PLANNED,
    QUERY_TIMEOUTS,
    QUERY_ABANDONED,
    QUERY_CONNECTIONS,
    QUERY_CONNECTIONS_BUSY,
    QUERY_WAIT,
    PLAN_DURATION,
    QUERY_SCAN_DURATION,
    PLAN_CACHE,
    TAIL_BYTES,
    TAIL_ROWS,
    TAIL_STALE,
    HTTP_REQUESTS,
    HTTP_DURATION,
    HTTP_RESPONSE_BYTES,
    HTTP_IN_PROGRESS,
    HTTP_RUNNING,
    HTTP_WAITING,
    HTTP_SENDING,
    HTTP_STALLED,
    HTTP_REFUSED,
    HTTP_CONNECTIONS,
    HTTP_CONNECTIONS_CLOSED,
    KEY_FILE_READS,
)
