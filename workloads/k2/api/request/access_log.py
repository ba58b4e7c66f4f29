"""The access log: one line for each request, for those who must know who asked what, of which snapshot, and what they got.

Lines go to the logger `k2.access` and so to stderr with the others, or into a file of their own. The key itself never
stands in one, only its name.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.types import Scope

from k2.api.request.request_scope import Visit
from k2.model.errors import WorldError
from k2.obs.logging import correlation_id, get_logger
from k2.obs.traces import trace_ids

_KEY = re.compile(r"k2_([A-Za-z0-9]{8})_[A-Za-z0-9]+")
_LONGEST = 4_096
_log = get_logger("k2.access")


class _File(WatchedFileHandler):
    """Tells of what cannot be written. The module's own way is a traceback on stderr for every line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - the base class names it so
        raise  # noqa: PLE0704 - called while the error is handled


class AccessLog:
    """Writes the lines.

    Args:
        path: a file that lines are added to, as JSON; it may be moved away while the service runs, and a new one is begun.
            None: the process's log.

    Raises:
        WorldError: the file cannot be opened.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file: _File | None = None
        self._lost = 0
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = _File(path, encoding="utf-8")
            except OSError as error:
                raise WorldError(f"The access log {path} cannot be written: {error.strerror}") from error

    def write(
        self, scope: Scope, visit: Visit, *, route: str, body: str, status: int, sent: int, seconds: float
    ) -> None:
        """Write the line of a request that ended."""
        tally = visit.tally
        given = Headers(scope=scope).get("x-api-key")
        client = scope.get("client")
        line: dict[str, Any] = {
            "key": visit.key_name,
            "client": client[0] if client else None,
            "method": scope.get("method", "WEBSOCKET"),
            "route": route,
            "path": _clean(scope["path"], given),
            "parameters": _parameters(scope, given),
            **({"body": _clean(body, given)} if body else {}),
            "status": status,
            "rows": tally.rows,
            "bytes": sent,
            "milliseconds": round(seconds * 1000, 1),
            "snapshots": {table: None if found is None else str(found) for table, found in tally.snapshots.items()},
            "files": tally.files_scanned,
            "files_skipped": tally.files_skipped,
            "plan_milliseconds": round(tally.plan_seconds * 1000, 1),
            "scan_milliseconds": round(tally.scan_seconds * 1000, 1),
            "wait_milliseconds": round(tally.wait_seconds * 1000, 1),
        }
        if self._file is None:
            _log.info("request.answered", **line)
            return
        ids = {"correlation_id": correlation_id.get()}
        if (traced := trace_ids()) is not None:
            ids["trace_id"] = traced[0]
        stamped = {"timestamp": datetime.now(UTC).isoformat(), **ids, **line}
        text = json.dumps(stamped, ensure_ascii=False)
        try:
            self._file.handle(logging.LogRecord("k2.access", logging.INFO, "", 0, text, None, None))
        except OSError as error:
            # Who reads must not fail because nothing can be written. The first line that is lost is told of, then their number.
            if not self._lost:
                _log.error("access_log.not_written", path=self._file.baseFilename, error=str(error))
            self._lost += 1
        else:
            if self._lost:
                _log.warning("access_log.written_again", path=self._file.baseFilename, lines_lost=self._lost)
                self._lost = 0

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()


def _parameters(scope: Scope, given: str | None) -> Mapping[str, str | list[str]]:
    found: dict[str, str | list[str]] = {}
    query: bytes = scope.get("query_string", b"")[:_LONGEST]
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        name, value = _clean(name, given), _clean(value, given)  # noqa: PLW2901 - nothing may keep them as they came
        before = found.get(name)
        if before is None:
            found[name] = value
        else:
            found[name] = [*([before] if isinstance(before, str) else before), value]
    return found


def _clean(text: str, given: str | None) -> str:
    """The text without a key, which people put into strange places; lines stay of bearable length."""
    if given and len(given) >= 8:
        text = text.replace(given, "…")
    return _KEY.sub(r"k2_\1_…", text[:_LONGEST])
