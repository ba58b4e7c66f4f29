"""What each kind of question is counted as, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from k2.model.errors import UserError
from k2.obs import metrics
from k2.query.rows.errors import AbandonedError, EngineBusyError, QueryTimeoutError


@contextmanager
def measured(label: str) -> Generator[None, None, None]:
    """Count a question of that kind by how it ends: ok, user_error, timeout, busy, abandoned or error."""
    started = time.perf_counter()
    outcome = "error"
    try:
        yield
        outcome = "ok"
    except UserError:
        outcome = "user_error"
        raise
    except QueryTimeoutError:
        outcome = "timeout"
        raise
    except EngineBusyError:
        outcome = "busy"
        raise
    except AbandonedError:
        outcome = "abandoned"
        raise
    finally:
        metrics.QUERY_EXECUTIONS.labels(label, outcome).inc()
        metrics.QUERY_DURATION.labels(label).observe(time.perf_counter() - started)
