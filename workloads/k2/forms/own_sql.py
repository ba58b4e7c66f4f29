"""What is said beside the rows of somebody's own SQL: of each table that it may have read, which snapshot, and how complete. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from k2.forms import bodies
from k2.forms.sources import completeness
from k2.query.plan.provenance import Provenance


def sql_envelope(found: Mapping[str, Provenance]) -> dict[str, Any]:
    """`views` has each table by its name; where there is one alone, its snapshot is that of the answer.

    `complete`: of each topic the offsets that are in it, without a gap (`k2 audit` counts them).
    """
    views = {name: bodies.provenance(each) | {"complete": completeness(each)} for name, each in found.items()}
    alone = next(iter(views.values())) if len(views) == 1 else {}
    problems = [f"{name}: {each['incomplete']}" for name, each in views.items() if "incomplete" in each]
    return {
        "snapshot_id": alone.get("snapshot_id"),
        "complete_until": alone.get("complete_until"),
        "views": views,
        **({"incomplete": "; ".join(problems)} if problems else {}),
    }
