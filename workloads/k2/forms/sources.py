"""From where each part of an answer came, up to which offsets it is complete, and how stale it is: members and headers. Pure."""

from __future__ import annotations

import json
import time
from typing import Any

from k2.forms import print_parameters
from k2.forms.told import told
from k2.model.times import SECOND_US, iso
from k2.query.plan.provenance import Provenance, SourceTable
from k2.query.rows.tail_view import TopicTail, may_hold

_LONGEST_HEADER = 2_000


def members(found: Provenance) -> dict[str, Any]:
    """What a JSON answer says of its sources."""
    tables = [_table(each) for each in found.sources]
    prints = print_parameters.told(found.prints)
    if (
        not found.is_hybrid
    ):  # how old it is, snapshot_time says: this body may be kept by a client for as long as it holds
        return {"hybrid": False, **prints, "sources": tables, **_adjusted(found), **_incomplete(found)}
    topics: list[TopicTail] = []
    if not found.is_partial:  # offsets tell how many rows there are that one may not see
        topics = [topic for tail in found.tails for topic in tail.topics]
    rows = {} if found.tail_rows is None else {"tail_rows": found.tail_rows}
    return {
        "hybrid": True,
        **prints,
        "sources": [*tables, *map(_topic, topics)],
        **rows,
        "stale_seconds": _staleness(found),
        **_adjusted(found),
        **_incomplete(found),
    }


def _adjusted(found: Provenance) -> dict[str, Any]:
    """By what an answer was adjusted: how many records, as known where, and up to when."""
    factors = found.factors
    if factors is None:
        return {}
    until_us = factors.how.until_us
    said = {name: value for name, value in members(factors.reference).items() if name in {"sources", "incomplete"}}
    return {
        "adjusted": {
            "to": factors.how.to.value,
            "events": factors.events,
            "until": None if until_us is None else iso(until_us),
            **said,
        }
    }


def _table(found: SourceTable) -> dict[str, Any]:
    snapshot = found.snapshot
    return {
        "kind": "iceberg",
        "table": found.table,
        "snapshot_id": None if snapshot is None else str(snapshot.id),
        "snapshot_time": None if snapshot is None else iso(snapshot.time_us),
        "files": found.files_scanned,
    }


def _topic(tail: TopicTail) -> dict[str, Any]:
    return {
        "kind": "kafka",
        "topic": tail.topic,
        "offsets": {str(number): list(held) for number, held in sorted(tail.ranges.items())},
        "behind": tail.behind,
    }


def headers(found: Provenance) -> dict[str, str]:
    """The same for answers that are rows alone."""
    said = {"K2-Hybrid": "true" if found.is_hybrid else "false"}
    for name, value in print_parameters.told(found.prints).items():
        if len(text := json.dumps(value, separators=(",", ":"))) <= _LONGEST_HEADER:
            said[f"K2-{name.capitalize()}"] = text
    sources = json.dumps(members(found), separators=(",", ":"))
    if len(sources) <= _LONGEST_HEADER:
        said["K2-Sources"] = sources
    stale = _staleness(found)
    if stale is not None:
        said["K2-Stale-Seconds"] = f"{stale:.3f}"
    problem = _problem(found)
    if problem is not None:
        said["K2-Incomplete"] = problem.encode("ascii", "replace").decode().replace("\n", " ")[:_LONGEST_HEADER]
    if found.tail_rows is not None:
        said["K2-Tail-Rows"] = str(found.tail_rows)
    if not found.is_partial and (complete := completeness(found)):
        said["K2-Complete"] = complete
    return said


def completeness(found: Provenance) -> str:
    """Of each topic the contiguous offsets that the answer's rows come from: `topic 0:0-1200 1:0-900; …`.

    From metadata alone: the tables' maps in the snapshots, and what was read beyond them, of the topics that may hold what the
    answer is of. Empty where K2 wrote no map.
    """
    topics = sorted(topic for each in found.sources for topic in _reached(each))
    text = "; ".join(topics)
    return text if len(text) <= _LONGEST_HEADER else f"{len(topics)} topics: ask /v1/stats"


def _reached(found: SourceTable) -> list[str]:
    if found.snapshot is None:
        return []
    beyond = {} if found.tail is None else {each.topic: each.ranges for each in found.tail.topics}
    topics: list[str] = []
    for topic, held in found.snapshot.offsets.topics.items():
        if found.exchanges is not None and not may_hold(topic, found.exchanges):
            continue
        ranges = {number: (part.first, part.next) for number, part in held.partitions.items()}
        for number, (start, to) in beyond.get(topic, {}).items():
            ranges[number] = (ranges.get(number, (start, start))[0], to)
        parts = " ".join(f"{number}:{first}-{following}" for number, (first, following) in sorted(ranges.items()))
        topics.append(f"{topic} {parts}")
    return topics


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
    problems = [told(tail.problem) for tail in found.tails if tail.problem is not None]
    if problems and found.is_partial:
        problems = ["A part of the tail is not at hand"]
    return "; ".join([*said, *problems]) or None


def _staleness(found: Provenance) -> float | None:
    """Of the stalest of its tables; None where one is not known. A tail without a topic is another table's: it is as old as that."""
    own = [
        each for each in found.sources if each.tail is None or each.tail.topics or each.tail.failure
    ] or found.sources
    stale = [_age(each) if each.tail is None else each.tail.stale_seconds for each in own]
    known = [seconds for seconds in stale if seconds is not None]
    return _rounded(max(known)) if len(known) == len(stale) else None


def _age(found: SourceTable) -> float | None:
    """Seconds since the snapshot was committed: nothing that came later is in the answer."""
    return None if found.snapshot is None else time.time() - found.snapshot.time_us / SECOND_US


def _rounded(seconds: float) -> float:
    return round(max(0.0, seconds), 3)
