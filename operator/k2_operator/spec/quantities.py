"""Durations, sizes and shares as a person writes them in a resource, as numbers. Pure."""

from __future__ import annotations

from decimal import Decimal

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_BYTES = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def seconds(duration: str) -> float:
    """`30s`, `500ms`, `1.5h` → seconds."""
    unit = "ms" if duration.endswith("ms") else duration[-1]
    return float(duration.removesuffix(unit)) * _SECONDS[unit]


def size_in_bytes(size: str) -> int:
    """`128Mi` → bytes."""
    unit = size[-2:] if size[-1] == "i" else ""
    return int(size.removesuffix(unit)) * _BYTES.get(unit, 1)


def share(percentage: str) -> Decimal:
    """`2.5%` → 0.025."""
    return Decimal(percentage.removesuffix("%")) / 100
