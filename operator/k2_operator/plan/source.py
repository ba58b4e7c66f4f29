"""A feed's source: what may be wrong with it, and the plan of the producer that reads it. Pure; a part of `planning.py`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from k2.model.events import Decimals
from k2.model.exchanges import Exchange
from k2.model.feed_rules import Prices
from k2.model.sources import SourceConfig, Volume, told
from k2.model.topics import DataType
from k2.model.workload import ProducerConfig, StreamConfig
from k2_operator.plan.plans import ProducerPlan, VolumePlan
from k2_operator.spec.resources import MarketFeed
from k2_operator.spec.validate import ResourceError


def keeps_account(feed: MarketFeed) -> bool:
    """Whether the feed says which trades it has not got."""
    return any(stream.data_type is DataType.GAPS for stream in feed.spec.streams)


def source_errors(who: str, feed: MarketFeed) -> list[ResourceError]:
    """What is wrong with a feed's source."""
    source = feed.spec.source
    if len(source.chosen) != 1:
        found = " and ".join(source.chosen) or "none"
        expected = f"exactly one of {', '.join(type(source).model_fields)}"
        return [ResourceError(who, "spec.source", "not one source", found=found, expected=expected)]
    config = source.config
    if config is None:
        return []
    if keeps_account(feed) and not config.is_live:
        index = [stream.data_type for stream in feed.spec.streams].index(DataType.GAPS)
        return [
            ResourceError(
                who,
                f"spec.streams[{index}].dataType",
                "a source that has an end keeps no account of gaps",
                found=DataType.GAPS,
                remedy="leave the stream out",
            )
        ]
    found = [
        ResourceError(
            who, f"spec.source.{config.kind}.{each.path}", each.what, found=each.found, expected=each.expected
        )
        for each in config.problems([stream.data_type for stream in feed.spec.streams])
    ]
    replicas = feed.spec.producer.replicas
    if replicas > 1 and not config.hot:
        what = f"a {config.kind} source has one producer, or it would be sent twice"
        found.append(ResourceError(who, "spec.producer.replicas", what, found=replicas, expected="1"))
    return found


def producer_plan(feed: MarketFeed, market: Exchange, streams: Sequence[StreamConfig]) -> ProducerPlan | None:
    """What sends a feed's events; None for an external source. The feed has passed `source_errors`."""
    source = feed.spec.source.config
    if source is None:
        return None
    config = ProducerConfig(
        feed=f"{feed.metadata.namespace}/{feed.metadata.name}",
        exchange=market.code,
        asset_class=feed.spec.asset_class or market.asset_class,
        currency=feed.spec.currency or market.currency,
        streams=tuple(streams),
        source=told(source.resolved([stream.data_type for stream in streams])),
        prices=feed.spec.prices,
        schema_version=feed.spec.schema_version,
    )
    return ProducerPlan(
        config,
        not source.is_live,
        _digest(config),
        _volume(source),
        feed.spec.producer.resources,
        feed.spec.producer.replicas,
        source.hot,
    )


def _digest(config: ProducerConfig) -> str:
    """By what is sent and where to; not how (resources, images): a change of those must not load a finished source again."""
    said = config.model_dump(mode="json")
    # What all feeds had before there was a choice is left out: their loads are done.
    for stream in said["streams"]:
        if stream["decimals"] == Decimals.STANDARD:
            del stream["decimals"]
    if said["prices"] == Prices.POSITIVE:
        del said["prices"]
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def _volume(source: SourceConfig) -> VolumePlan | None:
    mounted: Volume | None = source.mounts
    if mounted is None:
        return None
    if mounted.claim_name is not None:
        return VolumePlan("claim", mounted.claim_name)
    return VolumePlan("configMap", str(mounted.config_map_name))
