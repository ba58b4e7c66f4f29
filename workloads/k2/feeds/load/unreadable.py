"""What a live source heard and cannot use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A frame, or a part of it, that should have been an event and is none: a dead letter."""

    raw: bytes
    reason: str
