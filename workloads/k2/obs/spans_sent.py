"""Where spans go: a collector, by OTLP over HTTP. Loaded only where something is traced.

One that is away is told of once, and once more when it is back; the library would say so three times for each batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from k2.obs.logging import get_logger

SEND_SECONDS = 3.0
"""A batch that is not taken for so long is dropped. A process that ends waits no longer than this for its last one."""

_log = get_logger(__name__)


class SpansSent(SpanExporter):
    """Sends spans to that address, and counts those that were not taken."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._sender = OTLPSpanExporter(endpoint, timeout=SEND_SECONDS)
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them; what cannot be sent is dropped."""
        sent = self._sender.export(spans)
        if sent is not SpanExportResult.SUCCESS:
            if not self._lost:
                _log.warning("spans.not_taken", collector=self._endpoint)
            self._lost += len(spans)
        elif self._lost:
            _log.info("spans.taken_again", collector=self._endpoint, spans_lost=self._lost)
            self._lost = 0
        return sent

    def shutdown(self) -> None:
        """See `SpanExporter`."""
        self._sender.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See `SpanExporter`."""
        return self._sender.force_flush(timeout_millis)
