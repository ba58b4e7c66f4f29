"""The files of a load: what they hold (a hash), that they stay as they are while they are read, and their lines in blocks.

Blocks are whole lines with exact byte positions, so that a load can say up to which byte its rows are acknowledged.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from k2.feeds.formats.containers import Content
from k2.feeds.formats.tables import table_names
from k2.model.errors import UserError

BLOCK_BYTES = 1024 * 1024
MAX_LINE_BYTES = 1024 * 1024
REJECTS_HEADER = b"file,line,reason,row"
_HASH_BYTES = 1024 * 1024
_MAGIC = (
    (b"\x1f\x8b", "gzip data inside of what was unpacked", "Unpack it first (gunzip)"),
    (b"PK\x03\x04", "a zip archive inside of what was unpacked", "Unpack it first (unzip)"),
    (b"\x28\xb5\x2f\xfd", "zstd data inside of what was unpacked", "Unpack it first (zstd -d)"),
    (b"FEA1", "Feather of version 1", "Write it as Parquet, or as Feather of version 2"),
    (b"BZh", "bzip2 data", "Unpack it first (bunzip2)"),
    (b"\xfd7zXZ", "xz data", "Unpack it first (unxz)"),
    (b"%PDF", "a PDF", "Export the data as CSV"),
    (b"\xff\xfe", "UTF-16 text", "Save it as UTF-8 (iconv -f UTF-16 -t UTF-8)"),
    (b"\xfe\xff", "UTF-16 text", "Save it as UTF-8 (iconv -f UTF-16 -t UTF-8)"),
)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file as it was when the load began.

    Attributes:
        content: where it is and what it is wrapped in.
        sha256: of its content, unpacked.
        size: of its content, bytes.
        table: the names of its columns, where it is a file of columns (Parquet, Arrow) and no text.
        identity: of the file on disk: size, time of writing, inode.
    """

    content: Content
    sha256: str
    size: int
    table: tuple[str, ...] | None
    identity: tuple[int, int, int]

    @property
    def path(self) -> Path:
        """What the content is called."""
        return self.content.name

    @classmethod
    def examine(cls, content: Content, *, allow_empty: bool = False) -> SourceFile:
        """Read the file once for its hash; a `UserError` when it is missing, unreadable, empty, or plainly no data."""
        path = content.path
        try:
            with content.opened() as file:
                before = path.stat()
                if not stat.S_ISREG(before.st_mode):
                    raise UserError(
                        f"{path} is no regular file",
                        expected="a file: a load reads it twice",
                        remedy="Save it as a file first",
                    )
                head = file.read(65536)
                table = table_names(content, head)
                if table is None:
                    _refuse_binary(content.name, head)
                size = len(head)
                digest = hashlib.sha256(head)
                while data := file.read(_HASH_BYTES):
                    digest.update(data)
                    size += len(data)
        except OSError as error:
            raise UserError(
                f"{path} cannot be read", found=error.strerror, expected="a readable file", remedy="Check the path"
            ) from error
        if size == 0 and not allow_empty:
            raise UserError(
                f"{content.name} is empty",
                expected="rows",
                remedy="Check what wrote it; --allow-empty accepts an empty file as one without rows",
            )
        return cls(content, digest.hexdigest(), size, table, (before.st_size, before.st_mtime_ns, before.st_ino))

    def verify(self, sha256: str) -> None:
        """A `UserError` when the file is not what it was when the load began (`sha256`: of the bytes that were read)."""
        try:
            now = self.content.path.stat()
        except OSError as error:
            raise self._changed("it is gone") from error
        if (now.st_size, now.st_mtime_ns, now.st_ino) != self.identity:
            raise self._changed(f"{now.st_size:,} bytes, written at another time")
        if sha256 != self.sha256:
            raise self._changed("other content")

    def _changed(self, found: str) -> UserError:
        return UserError(
            f"{self.path} changed while it was read",
            found=found,
            expected=f"the {self.size:,} bytes that were there at the start",
            remedy="Wait until nothing writes to it and load it again: rows that were sent keep their ids",
        )


@dataclass(frozen=True, slots=True)
class LineBlock:
    """Whole lines of a file: `start` is the byte position of the first, `first_line` its number (from 1)."""

    data: bytes
    start: int
    first_line: int
    at_end: bool

    @property
    def end(self) -> int:
        """Byte position after the last line."""
        return self.start + len(self.data)

    @property
    def size(self) -> int:
        """Bytes of the file that it is."""
        return len(self.data)


def read_blocks(source: SourceFile, block_bytes: int = BLOCK_BYTES) -> Iterator[LineBlock]:
    """The file's lines in order, in blocks of about `block_bytes`; checks at the end that the file did not change.

    The last line may come without its newline. A line beyond 1 MiB is a `UserError`: that is no CSV of ticks.
    """
    digest = hashlib.sha256()
    position, line = 0, 1
    with source.content.opened() as file:
        rest = b""
        while True:
            data = file.read(block_bytes)
            digest.update(data)
            cut = data.rfind(b"\n") + 1
            if data and not cut:
                rest += data
                if len(rest) > MAX_LINE_BYTES:
                    raise _endless_line(source.path, line)
                continue
            block = rest + data[:cut] if data else rest
            rest = data[cut:]
            if block:
                yield LineBlock(block, position, line, at_end=not data)
                position += len(block)
                line += block.count(b"\n")
            if not data:
                break
        if file.read(1):  # it grew after its end was seen
            digest.update(b"\0")
    source.verify(digest.hexdigest())


def first_line(content: Content) -> bytes:
    """The first line without its line end (and without a byte order mark); empty for an empty file."""
    with content.opened() as file:
        line = file.readline(MAX_LINE_BYTES + 1)
    if len(line) > MAX_LINE_BYTES:
        raise _endless_line(content.name, 1)
    return line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")


def open_text(file: BinaryIO) -> Iterator[str]:
    """Lines of a small UTF-8 file, decoded leniently: for look-ups beside the load, never for its rows."""
    for line in file:
        yield line.decode("utf-8", "replace")


def _refuse_binary(path: Path, head: bytes) -> None:
    for magic, what, remedy in _MAGIC:
        if head.startswith(magic):
            raise UserError(f"{path} cannot be loaded", found=what, expected="text, Parquet or Arrow", remedy=remedy)
    if b"\0" in head:
        raise UserError(
            f"{path} cannot be loaded",
            found=f"binary data (a zero byte at position {head.index(0)})",
            expected="text in UTF-8, Parquet or Arrow",
        )
    if b"\r" in head and b"\n" not in head:
        raise UserError(
            f"{path} has lines that end in a carriage return alone",
            found=head[:80],
            expected="lines that end in a newline (with or without a carriage return before it)",
            remedy="Turn them into newlines: tr '\\r' '\\n' < old.csv > new.csv",
        )


def _endless_line(path: Path, line: int) -> UserError:
    return UserError(
        f"{path} is not a CSV file",
        found=f"line {line} is longer than {MAX_LINE_BYTES:,} bytes",
        expected="one row a line",
    )
