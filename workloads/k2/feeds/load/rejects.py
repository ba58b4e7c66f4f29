"""Rejected rows: a CSV of file, line, reason and the row as it came, which can be mended and loaded again as it is.

The rows of files with a header begin with a record that repeats it (reason `header`), so that the mended file is whole.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from k2.bus.dead_letters import DeadLetter
from k2.feeds.formats.csv_blocks import Rejected
from k2.feeds.formats.files import REJECTS_HEADER
from k2.model.errors import UserError

_HEADER_REASON = "header"


class RejectsFile:
    """Writes the rows that a load rejects; the file comes into being with the first of them.

    Args:
        path: where. An older file of that name is replaced: a load parses its files from the start each time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._file: BinaryIO | None = None
        self._part = ""

    def write(self, part: str, header: bytes | None, rejected: Sequence[Rejected]) -> None:
        """Add rows of one file of the load (`part` is its name, `header` its header line where it has one)."""
        if not rejected:
            return
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("wb")
            self._file.write(REJECTS_HEADER + b"\n")
        if header is not None and part != self._part:
            self._file.write(_record(part, Rejected(1, _HEADER_REASON, header)))
        self._part = part
        # Row by row: rejected rows are few, and each keeps its bytes, UTF-8 or not.
        for bad in rejected:
            self._file.write(_record(part, bad))
        self._file.flush()
        self.rows += len(rejected)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
        elif kind is None:
            self.path.unlink(missing_ok=True)  # of an earlier run, when the file had not been mended


def write_letters(folder: Path, letters: Sequence[DeadLetter]) -> list[Path]:
    """Write dead letters that are rows of files as rejects files into `folder`: one for each file, in order of lines.

    One for each, because what a file does not say of its rows (symbol, currency) was said when it was loaded.

    Raises:
        UserError: the folder holds anything already: it may have been mended by hand.
    """
    check_new(folder)
    by_file: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        by_file.setdefault(letter.file or "", []).append(letter)
    paths: list[Path] = []
    for number, (file, rows) in enumerate(by_file.items()):
        path = folder / f"{Path(file).name}.rejects.csv"
        paths.append(folder / f"{number}-{path.name}" if path in paths else path)
        with RejectsFile(paths[-1]) as rejects:
            for row in sorted(rows, key=lambda row: row.line or 0):
                header = None if row.file_header is None else row.file_header.encode()
                rejects.write(file, header, [Rejected(row.line or 0, row.reason, row.payload or b"")])
    return paths


def check_new(folder: Path) -> None:
    """Raise a `UserError` when a folder that is to be filled is none, or not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} cannot be filled with rejects files", expected="a new or an empty folder")


def is_rejects_file(path: Path) -> bool:
    """Whether the file is one that `RejectsFile` wrote."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        # No more: the first line of what is packed, or no text, may be as long as the file.
        return file.read(len(REJECTS_HEADER) + 2).split(b"\n")[0].rstrip(b"\r") == REJECTS_HEADER


def unwrap(path: Path, directory: Path) -> list[Path]:
    """Write the rows of a (mended) rejects file as plain CSV files into `directory`: one for each header in it.

    Raises:
        UserError: a record that is not four values, with its line.
    """
    pieces: list[list[bytes]] = []
    # Latin-1 maps every byte to one character and back: rows keep their bytes whatever their encoding is.
    text = io.StringIO(path.read_bytes().decode("latin-1"), newline="")
    reader = csv.reader(text)
    next(reader)
    # Row by row: rejects are few, and mended by hand.
    for record in reader:
        if not record:
            continue
        if len(record) != 4:
            raise UserError(
                f"Line {reader.line_num} of {path} is no record of a rejects file",
                found=f"{len(record)} columns",
                expected=REJECTS_HEADER.decode(),
                remedy='Mend the last column only, in quotes, with each quote inside it doubled ("")',
            )
        if not pieces or record[2] == _HEADER_REASON:
            pieces.append([])
        pieces[-1].append(record[3].encode("latin-1"))
    paths: list[Path] = []
    for number, lines in enumerate(pieces):
        paths.append(directory / f"{number}-{path.name}")
        paths[-1].write_bytes(b"\n".join(lines) + b"\n")
    return paths


def _record(part: str, bad: Rejected) -> bytes:
    values = (part.encode("utf-8", "surrogateescape"), str(bad.line).encode(), bad.reason.encode(), bad.raw)
    return b",".join(b'"' + value.replace(b'"', b'""') + b'"' for value in values) + b"\n"
