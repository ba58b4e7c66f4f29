"""A feed's source: what may be wrong with it, and the plan of the producer that reads it. Pure; a part of `planning`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from k2.model.exchanges import Exchange
from k2.model.topics import DataType
from k2.model.workload import CsvSource, ProducerConfig, StreamConfig, SyntheticSource
from k2_operator.plan.plans import ProducerPlan, VolumePlan
from k2_operator.spec.resources import Csv, MarketFeed, Synthetic
from k2_operator.spec.validate import ResourceError


def source_errors(who: str, feed: MarketFeed) -> list[ResourceError]:
    """What is wrong with a feed's source."""
    source = feed.spec.source
    kinds = list(type(source).model_fields)
    chosen = [kind for kind in kinds if getattr(source, kind) is not None]
    if len(chosen) != 1:
        found = " and ".join(chosen) or "none"
        return [
            ResourceError(
                who, "spec.source", "not one source", found=found, expected=f"exactly one of {', '.join(kinds)}"
            )
        ]
    return _csv_errors(who, source.csv, [stream.data_type for stream in feed.spec.streams]) if source.csv else []


def _csv_errors(who: str, csv: Csv, types: Sequence[DataType]) -> list[ResourceError]:
    errors: list[ResourceError] = []
    if csv.data_type is None and len(types) > 1:
        expected = f"one of the feed's streams: {', '.join(types)}"
        errors.append(ResourceError(who, "spec.source.csv.dataType", "missing", expected=expected))
    if csv.data_type is not None and csv.data_type not in types:
        expected = f"one of the feed's streams: {', '.join(types)}"
        errors.append(
            ResourceError(who, "spec.source.csv.dataType", "not a stream", found=csv.data_type, expected=expected)
        )
    if csv.format == "asx" and csv.symbol is None:
        expected = "the symbol of all rows: asx files do not name it"
        errors.append(ResourceError(who, "spec.source.csv.symbol", "missing", expected=expected))
    for index, uri in enumerate(csv.uris):
        path = f"spec.source.csv.uris[{index}]"
        if not uri.startswith(("s3://", "https://", "file:")):
            errors.append(
                ResourceError(who, path, "unknown kind of URI", found=uri, expected="s3://, https:// or file:")
            )
        elif uri.startswith("file:") and (uri.startswith("file:/") or ".." in uri.removeprefix("file:").split("/")):
            expected = "file: and a path relative to the volume, without .."
            errors.append(ResourceError(who, path, "not a relative path", found=uri, expected=expected))
        elif uri.startswith("file:") and csv.volume is None:
            expected = "the volume that file: URIs are relative to"
            errors.append(ResourceError(who, "spec.source.csv.volume", "missing", expected=expected))
    if csv.volume is not None and (csv.volume.claim_name is None) == (csv.volume.config_map_name is None):
        expected = "exactly one of claimName, configMapName"
        errors.append(ResourceError(who, "spec.source.csv.volume", "not one volume", expected=expected))
    return errors


def producer_plan(feed: MarketFeed, market: Exchange, streams: Sequence[StreamConfig]) -> ProducerPlan | None:
    """What sends a feed's events; None for an external source. The feed has passed `source_errors`."""
    chosen, volume = feed.spec.source, None
    if chosen.synthetic is not None:
        source, finite = _synthetic(chosen.synthetic), chosen.synthetic.days > 0
    elif chosen.csv is not None:
        source, finite = _csv(chosen.csv, streams[0].data_type), True
        volume = _volume(chosen.csv)
    else:
        return None
    config = ProducerConfig(
        feed=f"{feed.metadata.namespace}/{feed.metadata.name}",
        exchange=market.code,
        asset_class=feed.spec.asset_class or market.asset_class,
        currency=feed.spec.currency or market.currency,
        streams=tuple(streams),
        source=source,
        schema_version=feed.spec.schema_version,
    )
    # What is sent and where to; not how (resources, images): a change of those must not load a finished source again.
    canonical = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:10]
    return ProducerPlan(config, finite, digest, volume, feed.spec.producer.resources)


def _synthetic(spec: Synthetic) -> SyntheticSource:
    return SyntheticSource.model_validate(spec.model_dump())


def _csv(spec: Csv, only_stream: DataType) -> CsvSource:
    return CsvSource(format=spec.format, uris=spec.uris, data_type=spec.data_type or only_stream, symbol=spec.symbol)


def _volume(spec: Csv) -> VolumePlan | None:
    if spec.volume is None:
        return None
    if spec.volume.claim_name is not None:
        return VolumePlan("claim", spec.volume.claim_name)
    return VolumePlan("configMap", str(spec.volume.config_map_name))
