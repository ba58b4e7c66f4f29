"""Audits as lines for a person: what the grid of partitions does not say. Pure; from the JSON objects of `k2.forms.audits`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MOST_TOLD = 20
"""Ranges, files and decisions that are told one by one."""

Body = Mapping[str, Any]


def verdict(part: Body) -> str:
    """The last cell of a partition's line."""
    if part["ok"]:
        found = part["missing"] or part["doubled"] or part["outside"]
        state = "accepted" if found else "ok"
        return f"{state} (forgotten)" if part.get("forgotten") else state
    where = ", ".join(map(str, part["examples"]))
    return f"WRONG at offsets {where}" if where else f"WRONG: {part['outside']:,} rows outside of its offsets"


def lines(found: Body) -> list[str]:
    """All that is to be said of a table below its partitions; the first line sums it up."""
    snapshot = f" at snapshot {found['snapshot_id']}" if found["snapshot_id"] else ""
    return [
        f"{found['table']}{snapshot}: {found['rows']:,} rows, {judged(found)}.",
        *_missing(found),
        *_sent_again(found),
        *_deleted(found),
        *_files(found),
        *_gaps(found),
        *_strangers(found),
        *_lost(found),
        *_decisions(found),
    ]


def judged(found: Body) -> str:
    """The sentence's end: whether the table is whole, and never that nothing is missing where something is."""
    if not found["ok"]:
        return "NOT what its offsets say"
    said = (
        "every offset once" if not _accepted(found) else "what an audit finds of it was accepted, nothing else is wrong"
    )
    if found["missing"]:
        said += f"; {found['missing']:,} missing by decision"
    if found["lost"]:
        return f"{said}; {found['lost']:,} offsets are LOST, given up by decision"
    return said if found["missing"] else f"{said}, nothing missing"


def _accepted(found: Body) -> bool:
    findings = found["rows_of_unknown_topics"] or found["files"]["findings"] or found["gaps"]
    return bool(findings or any(part["missing"] or part["doubled"] or part["outside"] for part in found["partitions"]))


def _missing(found: Body) -> Iterator[str]:
    for part in found["partitions"]:
        if part["missing"]:
            what = "these offsets" if part["missing_exactly"] else f"{part['missing']:,} of these offsets"
            yield f"missing of {_name(part)}: {what}: {_ranges(part['missing_in'])}"


def _sent_again(found: Body) -> Iterator[str]:
    for part in found["partitions"]:
        if part["sent_again"]:
            yield (
                f"dead letters of {_name(part)}: {part['sent_again']:,} more offsets are of letters that were sent again and failed "
                "again; each letter counts once"
            )


def _deleted(found: Body) -> Iterator[str]:
    if found["deleted"]:
        yield f"{found['deleted']:,} rows were taken out by delete files of another engine: they are not counted"
    if found["files_with_untold_deletes"]:
        yield (
            f"{found['files_with_untold_deletes']:,} files have deletes in a form that is not read here: all their rows are "
            "counted; compact the table with the engine that deleted the rows"
        )


def _lost(found: Body) -> Iterator[str]:
    for part in found["partitions"]:
        if part["lost"]:
            told = _ranges(part["lost_in"]) or "before decisions were recorded"
            yield f"lost of {_name(part)}: {part['lost']:,} offsets: {told}"


def _files(found: Body) -> Iterator[str]:
    findings = found["files"]["findings"]
    for each in findings[:MOST_TOLD]:
        said = {
            "missing": f"is missing ({each['expected_bytes']:,} bytes by its manifest)",
            "size": f"has {each['found_bytes'] or 0:,} bytes, {each['expected_bytes']:,} by its manifest",
            "unreadable": "cannot be read as a Parquet file",
        }.get(each["problem"], each["problem"])
        yield f"file {each['file']} {said}{' (accepted)' if each['accepted'] else ''}"
    if len(findings) > MOST_TOLD:
        yield f"… and {len(findings) - MOST_TOLD:,} more files; --output json lists them"


def _gaps(found: Body) -> Iterator[str]:
    for gap in found["gaps"]:
        accepted = " (accepted)" if gap["accepted"] else ""
        yield (
            f"between commits, {_name(gap)}: expected offset {gap['expected']:,}, found {gap['found']:,} "
            f"(snapshot {gap['snapshot_id']}){accepted}"
        )


def _strangers(found: Body) -> Iterator[str]:
    if found["rows_of_unknown_topics"]:
        yield f"{found['rows_of_unknown_topics']:,} rows come from topics that it does not know"


def _decisions(found: Body) -> Iterator[str]:
    decisions = found["decisions"]
    if len(decisions) > MOST_TOLD:
        yield f"{len(decisions) - MOST_TOLD:,} older decisions: --output json lists them"
    for each in decisions[-MOST_TOLD:]:
        topic = f" of {each['topic']}" if each["topic"] else ""
        reason = f": {each['reason']}" if each["reason"] else ", no reason given"
        yield f"decision {each['what']}{topic}, {each['at'][:19]}Z, by {each['by']}{reason}{_covers(each)}"


def _covers(decision: Body) -> str:
    if lost := decision.get("lost"):
        return "; gave up " + ", ".join(f"{each['partition']}: {each['from']}-{each['to'] - 1}" for each in lost)
    if forgotten := decision.get("forgotten"):
        return f"; {sum(each['rows'] for each in forgotten):,} rows stay"
    if again := decision.get("read_again"):
        return f"; reads {sum(each['offsets'] for each in again):,} offsets again"
    if schema_ids := decision.get("schema_ids"):
        return f"; schema ids {', '.join(map(str, schema_ids))}"
    if accepted := decision.get("accepted"):
        counts = [
            f"{number:,} {name.replace('_', ' ')}" for name, number in accepted.items() if name != "files" and number
        ]
        files = [f"{len(accepted['files']):,} files"] if accepted["files"] else []
        return f"; accepted {', '.join([*counts, *files]) or 'gaps between commits'}"
    return ""


def _name(part: Body) -> str:
    return f"{part['topic']}/{part['partition']}"


def _ranges(found: Sequence[Sequence[int]]) -> str:
    told = [str(start) if stop - start == 1 else f"{start}-{stop - 1}" for start, stop in found[:MOST_TOLD]]
    return ", ".join(told) + (f" … ({len(found) - MOST_TOLD:,} more ranges)" if len(found) > MOST_TOLD else "")
