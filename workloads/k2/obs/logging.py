"""Logs: structlog, JSON in a pod and readable on a terminal, always to stderr so that stdout stays the command's data.

Libraries that log by the standard module (uvicorn, PyIceberg, SQLAlchemy) come out of the same pipe in the same form.
A line written while a request is answered carries the request's correlation id, and its trace where it is traced.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from typing import Any

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from k2.model.errors import UserError
from k2.model.settings import Settings, process_name
from k2.obs.traces import trace_ids

correlation_id: ContextVar[str | None] = ContextVar("k2_correlation_id", default=None)
"""The id of the request (or batch) that this task works for; in every log line written meanwhile."""

_FORMATS = ("auto", "json", "console")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
# Talkative at INFO with nothing that an operator of K2 can act on.
_QUIET = ("httpx", "httpx2", "httpcore", "httpcore2", "pyiceberg", "sqlalchemy", "uvicorn.access")

# Says three times of each batch of spans that a collector did not take it: `spans_sent` says it once.
_SILENT = ("opentelemetry",)

# What a handler of the standard module can say of a line by itself.
_OF_THE_RECORD = ("level", "logger", "timestamp")


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger of that name: `log.info("noun.past_tense", field=value)`."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=_processors(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    return logger


def structlog_to_logging() -> None:
    """Send the lines of libraries that log by structlog (stamina) where ours go. By itself it would write on stdout."""
    structlog.configure(
        processors=_processors(),
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def configure_logging(settings: Settings) -> None:
    """Send all logs of this process to stderr, as `log_format` and `log_level` say. Safe to call again.

    Raises:
        UserError: the format or the level is not one there is.
    """
    structlog_to_logging()
    level = _one_of("K2_LOG_LEVEL", settings.log_level.upper(), _LEVELS)
    form = _one_of("K2_LOG_FORMAT", settings.log_format.lower(), _FORMATS)
    if form == "auto":
        form = "console" if sys.stderr.isatty() else "json"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_shared(), structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(form)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel("ERROR" if level == "ERROR" else "WARNING")
    for name in _SILENT:
        logging.getLogger(name).setLevel("CRITICAL")


def _renderers(form: str) -> list[Processor]:
    if form == "json":
        return [_add_process, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    # Tracebacks without local variables: these hold keys and passwords, and rendering them takes seconds.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]


def _processors() -> list[Processor]:
    return [structlog.stdlib.filter_by_level, *_shared(), _hand_over]


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        _add_correlation_id,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _hand_over(logger: WrappedLogger, name: str, event: EventDict) -> Any:
    """To our handler; where no handler is ours (a short command, a program that uses the client), as a plain line.

    Then the standard module decides where it goes: warnings to stderr, the rest nowhere, and nothing to stdout.
    """
    if any(isinstance(each.formatter, structlog.stdlib.ProcessorFormatter) for each in logging.getLogger().handlers):
        return structlog.stdlib.ProcessorFormatter.wrap_for_formatter(logger, name, event)
    fields = {key: value for key, value in event.items() if key not in {*_OF_THE_RECORD, "event", "exc_info"}}
    line = " ".join([str(event["event"]), *(f"{key}={value!r}" for key, value in fields.items())])
    return ("%s", line), {"exc_info": event.get("exc_info")}


def _add_correlation_id(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    found = correlation_id.get()
    if found is not None:
        event.setdefault("correlation_id", found)
    return event


def _add_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    found = trace_ids()
    if found is not None:
        event.setdefault("trace_id", found[0])
        event.setdefault("span_id", found[1])
    return event


def _add_process(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["process"] = process_name()
    return event


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise UserError(f"{name} cannot be used", found=value, expected="one of " + ", ".join(known))
    return value
