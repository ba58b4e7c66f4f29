"""Traces for those who collect them (OpenTelemetry): a request with its plan and its scans, a commit with its tries. Never a tick.

Off, as they are by default, nothing of OpenTelemetry is loaded and a span is one look at a variable. On, spans go by OTLP over HTTP
from a thread of their own; a collector that is away costs spans, never an answer or a commit.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Protocol, Self
from urllib.parse import urlsplit

from k2.model.errors import UserError
from k2.model.settings import Settings, process_name

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.trace import Span as Recorded
    from opentelemetry.trace import Tracer

Attributes = Mapping[str, str | int | float | bool]
_NONE: Attributes = MappingProxyType({})


class Span(Protocol):
    """A piece of work, with how long it took. Use it as a context manager: an error that leaves it is noted in it."""

    def set(self, attributes: Attributes) -> None:
        """Say more of it."""
        ...

    def named(self, name: str) -> None:
        """Give it another name, where one is known only at its end."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class _NoSpan:
    """What stands for each span where nothing is traced."""

    def set(self, attributes: Attributes) -> None:
        """See `Span`."""

    def named(self, name: str) -> None:
        """See `Span`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


NO_SPAN: Span = _NoSpan()
"""What nothing is noted of."""
_tracer: Tracer | None = None


def span(name: str, attributes: Attributes = _NONE, *, current: bool = True) -> Span:
    """A span below the one that is open here.

    Args:
        name: what is done, of few different words: symbols and times are attributes.
        attributes: what is known of it.
        current: whether spans that are opened within it are below it. False for what is taken piece by piece, from different tasks.
    """
    if _tracer is None:
        return NO_SPAN
    return _Spanned(_tracer, name, None, attributes, current=current)


def incoming(name: str, headers: Iterable[tuple[bytes, bytes]], attributes: Attributes = _NONE) -> Span:
    """The span of a request, below the caller's where its headers tell of one (`traceparent`, W3C)."""
    if _tracer is None:
        return NO_SPAN
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    told = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in headers}
    above = TraceContextTextMapPropagator().extract(told)
    return _Spanned(_tracer, name, above, attributes, current=True, kind=SpanKind.SERVER)


def trace_ids() -> tuple[str, str] | None:
    """Trace and span that are open here, in hexadecimal; None where nothing is traced."""
    if _tracer is None:
        return None
    from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

    found = get_current_span().get_span_context()
    return (format_trace_id(found.trace_id), format_span_id(found.span_id)) if found.is_valid else None


@contextmanager
def traced(settings: Settings, service: str) -> Generator[None, None, None]:
    """Trace this process meanwhile, where the settings say where to; at the end what is left is sent.

    Args:
        settings: `traces_endpoint` and `traces_ratio`.
        service: what the process is, as the collector groups them: k2-query, k2-sink.

    Raises:
        UserError: the address cannot be used, or OpenTelemetry is not installed.
    """
    global _tracer  # noqa: PLW0603 - one process has one, as it has one log
    if not settings.traces_endpoint:
        yield
        return
    endpoint = _address(settings.traces_endpoint)
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

        from k2.obs.spans_sent import SpansSent
    except ImportError as error:
        raise UserError(
            "Traces are asked for, and OpenTelemetry is not installed",
            found=f"K2_TRACES_ENDPOINT={settings.traces_endpoint}",
            expected="the extra otel",
            remedy="Run `pip install 'k2-market-data[otel]'`, or unset K2_TRACES_ENDPOINT",
        ) from error
    about = {"service.name": service, "service.instance.id": process_name()}
    if namespace := os.environ.get("K2_POD_NAMESPACE"):
        about["k8s.namespace.name"] = namespace
    provider = TracerProvider(ParentBasedTraceIdRatio(settings.traces_ratio), Resource.create(about))
    provider.add_span_processor(BatchSpanProcessor(SpansSent(endpoint)))
    _tracer = provider.get_tracer("k2")
    try:
        yield
    finally:
        _tracer = None
        provider.shutdown()


class _Spanned:
    """A span of OpenTelemetry, begun when it is entered."""

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        above: Context | None,
        attributes: Attributes,
        *,
        current: bool,
        kind: object = None,
    ) -> None:
        self._tracer, self._name, self._above, self._current, self._kind = tracer, name, above, current, kind
        self._attributes = attributes
        self._recorded: Recorded | None = None
        self._token: Token[Context] | None = None

    def set(self, attributes: Attributes) -> None:
        """See `Span`."""
        assert self._recorded is not None
        self._recorded.set_attributes(dict(attributes))

    def named(self, name: str) -> None:
        """See `Span`."""
        assert self._recorded is not None
        self._recorded.update_name(name)

    def __enter__(self) -> Self:
        from opentelemetry.context import attach
        from opentelemetry.trace import SpanKind, set_span_in_context

        kind = self._kind if isinstance(self._kind, SpanKind) else SpanKind.INTERNAL
        self._recorded = self._tracer.start_span(self._name, self._above, kind, dict(self._attributes))
        if self._current:
            self._token = attach(set_span_in_context(self._recorded, self._above))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from opentelemetry.context import detach
        from opentelemetry.trace import Status, StatusCode

        assert self._recorded is not None
        if error is not None and not isinstance(error, GeneratorExit):
            self._recorded.set_status(Status(StatusCode.ERROR, str(error) or type(error).__name__))
        if self._token is not None:
            detach(self._token)
        self._recorded.end()


def _address(endpoint: str) -> str:
    """Where spans are sent: with the usual path, where the setting names none."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UserError(
            "K2_TRACES_ENDPOINT cannot be used",
            found=endpoint,
            expected="the address of an OTLP collector over HTTP, such as http://collector:4318",
        )
    return endpoint if parts.path.strip("/") else f"{endpoint.rstrip('/')}/v1/traces"
