"""Everything that one feed's plan asks for, as manifests."""

from __future__ import annotations

from k2.model.platform import Platform
from k2_operator.build import deployment, job
from k2_operator.build.types import Manifest
from k2_operator.plan.plans import FeedPlan


def objects(feed: FeedPlan, platform: Platform) -> list[Manifest]:
    """Sinks first, then the producer: the order in which a reader understands them; all are applied at once."""
    built: list[Manifest] = []
    for sink in feed.sinks:
        built += deployment.sink(feed, sink, platform)
    if feed.producer is not None:
        builder = job.load if feed.producer.finite else deployment.producer
        built += builder(feed, feed.producer, platform)
    return built
