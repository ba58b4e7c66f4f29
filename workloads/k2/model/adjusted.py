"""What prices may be adjusted for, by its names in the API."""

from __future__ import annotations

from enum import StrEnum


class Adjusted(StrEnum):
    """Splits and mergers, or dividends too."""

    SPLITS = "splits"
    ALL = "all"
