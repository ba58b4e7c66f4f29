"""What of a load is already in the topic: a small JSON file per load, written atomically as deliveries are confirmed.

A ledger is found by content (hashes of the parts), options and the topic's own id, never by a file's name: a load that
was interrupted goes on where it was, a finished one sends nothing, and a topic that was made anew starts from nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from k2.feeds.load.chunks import Position
from k2.model.errors import UserError

_VERSION = 1


@dataclass(slots=True)
class LoadProgress:
    """How far a load is: what is acknowledged, and where it went."""

    position: Position = field(default_factory=Position)
    rows: int = 0
    """Events before the position, all acknowledged."""
    finished: bool = False
    next_offsets: dict[str, dict[int, int]] = field(default_factory=dict[str, dict[int, int]])
    """Topic → partition → the offset after the load's last event there."""
    summary: dict[str, Any] = field(default_factory=dict[str, Any])
    """Counts of the finished load, to say again when it is run again."""

    def passed(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Note the offsets that a delivery reported."""
        known = self.next_offsets.setdefault(topic, {})
        for partition, offset in offsets.items():
            known[partition] = max(offset, known.get(partition, 0))


class Ledger:
    """The ledger of one load. Open it with `Ledger.open`; close it, or use it as a context manager.

    `progress` is what was found (or nothing yet); change it and `save`.
    """

    def __init__(self, path: Path, lock: int, document: dict[str, Any], progress: LoadProgress) -> None:
        self.path = path
        self.progress = progress
        self._lock = lock
        self._document = document

    @classmethod
    def open(cls, directory: Path, options: Mapping[str, str], parts: Sequence[str], *, restart: bool = False) -> Self:
        """Find or begin the ledger of these parts.

        Args:
            directory: where ledgers are kept.
            options: all that decides what is sent where (format, symbol, topic, the topic's id, …).
            parts: a hash of each part's content, in order. A ledger of a load that began with the same parts counts as
                far as they go: files that were added at the end are the only ones sent.
            restart: forget what was found.

        Raises:
            UserError: another process is at this load, or the directory cannot be written.
        """
        key = hashlib.sha256(json.dumps(dict(sorted(options.items()))).encode()).hexdigest()[:16]
        name = f"{key}-{hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()[:16]}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = os.open(directory / f"{name}.lock", os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise UserError(f"The ledger cannot be kept in {directory}", found=error.strerror) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise UserError(
                "Another process is loading the same files", remedy="Wait for it, or stop it: this load goes on then"
            ) from error
        document: dict[str, Any] = {"ledger": _VERSION, "options": dict(options), "parts": list(parts)}
        progress = LoadProgress() if restart else _found(directory, key, parts)
        return cls(directory / f"{name}.json", lock, document, progress)

    def save(self) -> None:
        """Write the progress: after a crash the file holds the old or the new state, never a part of it."""
        document = self._document | {
            "position": [self.progress.position.part, self.progress.position.offset],
            "rows": self.progress.rows,
            "finished": self.progress.finished,
            "next_offsets": self.progress.next_offsets,
            "summary": self.progress.summary,
        }
        part = self.path.with_suffix(".tmp")
        with part.open("w") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def close(self) -> None:
        """Let go of the load; another process may take it up."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _found(directory: Path, key: str, parts: Sequence[str]) -> LoadProgress:
    """The progress of the ledger that covers most of these parts; nothing when there is none."""
    best = LoadProgress()
    for path in sorted(directory.glob(f"{key}-*.json")):
        try:
            document = json.loads(path.read_text())
        except (OSError, json.JSONDecodeError):  # not ours, or damaged by hand: loading again is always right
            continue
        if document.get("ledger") != _VERSION:
            continue
        progress = _covered(document, parts)
        if progress.position > best.position or progress.finished:
            best = progress
    return best


def _covered(document: Mapping[str, Any], parts: Sequence[str]) -> LoadProgress:
    theirs: list[str] = document["parts"]
    common = next((i for i, pair in enumerate(zip(theirs, parts, strict=False)) if pair[0] != pair[1]), len(theirs))
    common = min(common, len(parts))
    position = Position(*document["position"])
    if document["finished"]:
        position = Position(len(theirs), 0)
    same = theirs == list(parts)
    covered = position if position.part < common or same else Position(common, 0)
    progress = LoadProgress(
        covered,
        document["rows"] if same else 0,
        same and document["finished"],
        {topic: {int(p): offset for p, offset in found.items()} for topic, found in document["next_offsets"].items()},
        document["summary"] if same else {},
    )
    return progress if covered > Position() or same else LoadProgress()
