"""What a source is opened with."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from k2.model.settings import Settings
from k2.model.workload import ProducerConfig


@dataclass(frozen=True, slots=True)
class Opening:
    """What whoever opens a source may look at.

    Attributes:
        config: the feed; its `source` is of the kind that is opened.
        settings: addresses and credentials, and where mounted files are.
        stop: set when it shall end.
        folder: for files of its own; gone when the workload ends.
    """

    config: ProducerConfig
    settings: Settings
    stop: threading.Event
    folder: Path
