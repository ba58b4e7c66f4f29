"""From where each part of an answer came, up to which offsets it is complete, and how stale it is: members and headers. Pure."""

from __future__ import annotations

import json
import time
from typing import Any

from k2.model.times import SECOND_US
from k2.query.plan.provenance import Provenance

_LONGEST_HEADER = 2_000


def members(found: Provenance) -> dict[str, Any]:
    """What a JSON answer says of its sources."""
    tail = found.tail
    snapshot = found.snapshot
    iceberg = {
        "kind": "iceberg",
        "table": found.table,
        "snapshot_id": None if snapshot is None else str(snapshot.id),
        "files": found.files_scanned,
    }
    if tail is None:  # how old it is, snapshot_time says: this body may be kept by a client for as long as it holds
        return {"hybrid": False, "sources": [iceberg], **_incomplete(found)}
    kafka: list[dict[str, Any]] = []
    if not found.is_partial:  # offsets tell how many rows there are that one may not see
        kafka = [
            {
                "kind": "kafka",
                "topic": each.topic,
                "offsets": {str(number): list(held) for number, held in sorted(each.ranges.items())},
                "behind": each.behind,
            }
            for each in tail.topics
        ]
    rows = {} if found.tail_rows is None else {"tail_rows": found.tail_rows}
    return {
        "hybrid": True,
        "sources": [iceberg, *kafka],
        **rows,
        "stale_seconds": _staleness(found),
        **_incomplete(found),
    }


def headers(found: Provenance) -> dict[str, str]:
    """The same for answers that are rows alone."""
    tail = found.tail
    said = {"K2-Hybrid": "false" if tail is None else "true"}
    sources = json.dumps(members(found), separators=(",", ":"))
    if len(sources) <= _LONGEST_HEADER:
        said["K2-Sources"] = sources
    stale = _staleness(found)
    if stale is not None:
        said["K2-Stale-Seconds"] = f"{stale:.3f}"
    problem = _problem(found)
    if problem is not None:
        said["K2-Incomplete"] = problem.encode("ascii", "replace").decode().replace("\n", " ")[:_LONGEST_HEADER]
    if tail is not None and found.tail_rows is not None:
        said["K2-Tail-Rows"] = str(found.tail_rows)
    if not found.is_partial and (complete := completeness(found)):
        said["K2-Complete"] = complete
    return said


def completeness(found: Provenance) -> str:
    """Of each topic the contiguous offsets that the answer's rows come from: `topic 0:0-1200 1:0-900; …`.

    From metadata alone: the table's map in the snapshot, and what was read beyond it. Empty where K2 wrote no map.
    """
    if found.snapshot is None:
        return ""
    beyond = {} if found.tail is None else {each.topic: each.ranges for each in found.tail.topics}
    topics: list[str] = []
    for topic, held in sorted(found.snapshot.offsets.topics.items()):
        ranges = {number: (part.first, part.next) for number, part in held.partitions.items()}
        for number, (start, to) in beyond.get(topic, {}).items():
            ranges[number] = (ranges.get(number, (start, start))[0], to)
        parts = " ".join(f"{number}:{first}-{following}" for number, (first, following) in sorted(ranges.items()))
        topics.append(f"{topic} {parts}")
    text = "; ".join(topics)
    return text if len(text) <= _LONGEST_HEADER else f"{len(topics)} topics: ask /v1/stats"


def _incomplete(found: Provenance) -> dict[str, str]:
    problem = _problem(found)
    return {} if problem is None else {"incomplete": problem}


def _problem(found: Provenance) -> str | None:
    """Why the answer may not hold all there is.

    A topic's name is its exchange's: who sees a part of the table is not told which it is.
    """
    said: list[str] = []
    if found.unconfirmed is not None:
        # The reason names the catalog's address, which is for the log and for /ready.
        said.append(
            "The catalog does not answer: this is the newest snapshot that is known, and there may be newer ones"
        )
    if found.tail is not None and found.tail.problem is not None:
        said.append("A part of the tail is not at hand" if found.is_partial else found.tail.problem)
    return "; ".join(said) or None


def _staleness(found: Provenance) -> float | None:
    return _age(found) if found.tail is None else _rounded(found.tail.stale_seconds)


def _age(found: Provenance) -> float | None:
    """Seconds since the snapshot was committed: nothing that came later is in the answer."""
    return None if found.snapshot is None else _rounded(time.time() - found.snapshot.time_us / SECOND_US)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(max(0.0, seconds), 3)
