"""A pin in the hands of the one who made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from k2.client.protocol import Client


@dataclass(frozen=True, slots=True)
class Pin:
    """Snapshots of several tables that are kept until the pin lapses. A context manager: its end lets go of them.

    Attributes:
        id: what every question takes as `pin`.
        until: when it lapses, UTC.
        snapshots: the snapshot's id by table.
    """

    id: str
    until: datetime
    snapshots: Mapping[str, str]
    _client: Client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let go of the snapshots: they may be expired from now on."""
        self._client.delete_pin(self.id)

    @classmethod
    def read(cls, said: dict[str, Any], client: Client) -> Self:
        """From the API's object."""
        held = {table: str(each["snapshot_id"]) for table, each in said["tables"].items()}
        return cls(said["pin"], datetime.fromisoformat(said["until"]), held, client)
