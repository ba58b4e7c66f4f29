"""The account of gaps as metrics of the feed's process."""

from __future__ import annotations

from k2.model.gaps import GapCounts
from k2.obs import metrics


def begin_figures(exchange: str) -> None:
    """Start the figures at zero: Prometheus sees no increase in a counter that begins with its first event."""
    for figure in (metrics.FEED_MISSING_TRADES, metrics.FEED_OLDEST_GAP, metrics.FEED_UNKNOWN_TIMES):
        figure.labels(exchange)
    for outcome in metrics.GAP_OUTCOMES:
        metrics.FEED_GAP_TRADES.labels(exchange, outcome)


def show_figures(exchange: str, now: GapCounts, before: GapCounts, at: int) -> GapCounts:
    """Bring the metrics up to what an account comes to.

    Args:
        exchange: the exchange's code.
        now: the account.
        before: as it was when it was last shown, or when the process began.
        at: the time, in microseconds since 1970.

    Returns:
        `now`, to be given as `before` the next time.
    """
    metrics.FEED_MISSING_TRADES.labels(exchange).set(now.open)
    metrics.FEED_OLDEST_GAP.labels(exchange).set(0 if now.oldest is None else max(0.0, (at - now.oldest) / 1e6))
    for outcome in metrics.GAP_OUTCOMES:
        grown = getattr(now, outcome) - getattr(before, outcome)
        if grown > 0:
            metrics.FEED_GAP_TRADES.labels(exchange, outcome).inc(grown)
    if now.unknown > before.unknown:
        metrics.FEED_UNKNOWN_TIMES.labels(exchange).inc(now.unknown - before.unknown)
    return now
