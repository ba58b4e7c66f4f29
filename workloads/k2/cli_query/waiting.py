"""What a person who waits sees: on a terminal, and only when it takes longer than a moment."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Self

from k2.cli_query.destination import is_terminal

if TYPE_CHECKING:
    from rich.status import Status

_PATIENCE_SECONDS = 1.0
_BETWEEN_SECONDS = 0.2


class Waiting:
    """A line on stderr with the rows and seconds so far, while the block runs.

    Nothing is written unless stderr is a terminal, nor once rows are written to a terminal: they would be mixed up.
    """

    def __init__(self, what: str = "asking") -> None:
        self._what = what
        self._rows = 0
        self._percent = 0.0
        self._started = self._said = time.monotonic()
        self._changing = threading.Lock()
        self._over = not sys.stderr.isatty()
        self._line: Status | None = None
        self._timer = threading.Timer(_PATIENCE_SECONDS, self._begin)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        if not self._over:
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return max(time.monotonic() - self._started, 1e-9)

    def came(self, rows: int) -> None:
        """So many more rows are there."""
        self._rows += rows
        with self._changing:
            if self._line is not None and time.monotonic() - self._said > _BETWEEN_SECONDS:
                self._said = time.monotonic()
                self._line.update(self._text())

    def done(self, percent: float) -> None:
        """So much of what rows are made of is read."""
        with self._changing:
            self._percent = percent
            if self._line is not None:
                self._line.update(self._text())

    def will_write(self) -> None:
        """Rows are about to be written."""
        if not self._over and is_terminal():
            self.end()

    def end(self) -> None:
        """Say no more."""
        self._timer.cancel()
        with self._changing:
            self._over = True
            line, self._line = self._line, None
            if line is not None:
                line.stop()

    def _begin(self) -> None:
        from rich.console import Console
        from rich.status import Status

        with self._changing:
            if not self._over:
                self._line = Status(self._text(), console=Console(stderr=True, highlight=False))
                self._line.start()

    def _text(self) -> str:
        if self._rows:
            return f"{self._rows:,} rows, {self._rows / self.seconds:,.0f} a second"
        return f"{self._what}: {self._percent:.0f} %" if self._percent else f"{self._what} …"
