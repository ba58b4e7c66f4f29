"""Plans of one feed as a person would write it, without Kafka or an API server."""

from __future__ import annotations

from typing import Any

from k2.model.platform import CatalogPlatform, KafkaPlatform, Platform, RegistryPlatform
from k2_operator.plan.planning import plan
from k2_operator.plan.plans import FeedPlan

PLATFORM = Platform(
    kafka=KafkaPlatform(bootstrap_servers="k:9092"),
    registry=RegistryPlatform(url="http://r"),
    catalog=CatalogPlatform(properties={}),
)
TOPIC = "market.equities.trades.sim"


def planned(days: int, **more: Any) -> FeedPlan:
    """Trades of the synthetic exchange for so many days (0: without an end), from `TOPIC` into market_data.trades."""
    api = "k2.dev/v1alpha1"
    source = {"synthetic": {"start": "2026-03-02", "days": days}}
    stream = {"dataType": "trades", "tableRef": {"name": "trades"}}
    spec = {"source": source, "exchange": "SIM", "streams": [stream], **more}
    table = {"identifier": "market_data.trades", "schema": "trades"}
    documents = [
        {"apiVersion": api, "kind": "IcebergTable", "metadata": {"name": "trades"}, "spec": table},
        {"apiVersion": api, "kind": "MarketFeed", "metadata": {"name": "sim"}, "spec": spec},
    ]
    return plan(documents, PLATFORM).feeds[0]
