"""What a file looks like, before anybody says how it is written: text or columns, its delimiter, its first rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from k2.feeds.formats.containers import Content
from k2.feeds.formats.files import first_line
from k2.feeds.formats.tables import table_names

_HEAD_BYTES = 64 * 1024
_DELIMITERS = ",;\t|"
_VALUE = re.compile(r"[-+]?[0-9]")


@dataclass(frozen=True, slots=True)
class Look:
    """What the beginning of a file shows.

    Attributes:
        is_table: it is a file of columns.
        delimiter: what stands between values.
        names: of its columns; empty where the first line is a row.
        width: how many columns there are.
    """

    is_table: bool
    delimiter: str
    names: Sequence[str]
    width: int

    def __str__(self) -> str:
        if not self.names:
            return f"{self.width} columns without a header"
        return f"the columns {', '.join(self.names)}"


def look_at(content: Content) -> Look:
    """What a file looks like.

    Raises:
        UserError: it is damaged, or no text.
        OSError: it cannot be read.
    """
    with content.opened() as file:
        head = file.read(_HEAD_BYTES)
    names = table_names(content, head)
    if names is not None:
        return Look(True, ",", tuple(name.lower() for name in names), len(names))
    line = first_line(content).decode("utf-8", "replace")
    delimiter = max(_DELIMITERS, key=line.count)
    values = [value.strip() for value in split(line, delimiter)]
    is_header = not any(_VALUE.match(value) for value in values)
    return Look(False, delimiter, tuple(value.lower() for value in values) if is_header else (), len(values))


def split(line: str, delimiter: str) -> list[str]:
    """The values of a line of text."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return line.split(delimiter)
