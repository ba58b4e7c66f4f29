"""Logs: structlog, JSON in a pod and readable on a terminal, always to stderr so that stdout stays the command's data.

Libraries that log by the standard module (uvicorn, PyIceberg, SQLAlchemy) come out of the same pipe in the same form.
A line written while a request is answered carries the request's correlation id.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from k2.model.errors import UserError
from k2.model.settings import Settings, process_name

correlation_id: ContextVar[str | None] = ContextVar("k2_correlation_id", default=None)
"""The id of the request (or batch) that this task works for; in every log line written meanwhile."""

_FORMATS = ("auto", "json", "console")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
# Talkative at INFO with nothing that an operator of K2 can act on.
_QUIET = ("httpx", "httpcore", "pyiceberg", "sqlalchemy", "uvicorn.access")


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger of that name: `log.info("event words", key=value)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def configure_logging(settings: Settings) -> None:
    """Send all logs of this process to stderr, as `log_format` and `log_level` say. Safe to call again.

    Raises:
        UserError: the format or the level is not one there is.
    """
    level = _one_of("K2_LOG_LEVEL", settings.log_level.upper(), _LEVELS)
    form = _one_of("K2_LOG_FORMAT", settings.log_format.lower(), _FORMATS)
    if form == "auto":
        form = "console" if sys.stderr.isatty() else "json"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_correlation_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(form)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel("ERROR" if level == "ERROR" else "WARNING")


def _renderers(form: str) -> list[Processor]:
    if form == "json":
        return [_add_process, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    # Tracebacks without local variables: these hold keys and passwords, and rendering them takes seconds.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]


def _add_correlation_id(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    found = correlation_id.get()
    if found is not None:
        event.setdefault("correlation_id", found)
    return event


def _add_process(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["process"] = process_name()
    return event


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise UserError(f"{name} cannot be used", found=value, expected="one of " + ", ".join(known))
    return value
