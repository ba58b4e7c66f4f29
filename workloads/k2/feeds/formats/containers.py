"""What a file of a load is wrapped in: nothing, gzip, zstd, or a zip archive, whose members are files one by one. All are streamed."""

from __future__ import annotations

import gzip
import io
import stat
import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from k2.model.errors import UserError

_SPREADSHEET = "[Content_Types].xml"
_SUFFIXES = (".gz", ".gzip", ".zst", ".zstd")
_BUFFER_BYTES = 1024 * 1024


class Wrapping(Enum):
    """How a file is packed, by its first bytes and never by its name."""

    NONE = b""
    GZIP = b"\x1f\x8b"
    ZSTD = b"\x28\xb5\x2f\xfd"
    ZIP = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class Content:
    """One file's content: the file itself, what is packed in it, or a member of an archive."""

    path: Path
    wrapping: Wrapping = Wrapping.NONE
    member: str = ""

    @property
    def name(self) -> Path:
        """What the content is called: the member's name, or the file's without the end that tells its packing."""
        if self.member:
            return self.path / self.member
        wrapped = self.wrapping is not Wrapping.NONE and self.path.suffix.lower() in _SUFFIXES
        return self.path.with_suffix("") if wrapped else self.path

    @contextmanager
    def opened(self) -> Generator[BinaryIO]:
        """The content as a stream of bytes.

        Raises:
            UserError: the packing is damaged, or its end is missing.
            OSError: the file cannot be read.
        """
        with self.path.open("rb") as file:
            try:
                yield _unpacked(file, self)
            except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, pa.ArrowInvalid, RuntimeError) as error:
                raise self._damaged(error) from error
            except OSError as error:
                if error.errno is not None:
                    raise
                raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> UserError:
        return UserError(
            f"{self.path} is damaged, or not whole",
            found=str(error)[:200],
            expected=f"whole {self.wrapping.name.lower()} data"
            if self.wrapping is not Wrapping.NONE
            else "a whole file",
            remedy="Fetch it again",
        )


def contents(path: Path) -> list[Content]:
    """The contents of a file, in order: one, or each member of a zip archive.

    Raises:
        UserError: the archive has no members, is a spreadsheet, or is damaged.
        OSError: the file cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        return [Content(path)]
    with path.open("rb") as file:
        head = file.read(4)
    wrapping = next(each for each in reversed(Wrapping) if head.startswith(each.value))
    if wrapping is not Wrapping.ZIP:
        return [Content(path, wrapping)]
    try:
        with zipfile.ZipFile(path) as archive:
            members = [each.filename for each in archive.infolist() if not each.is_dir()]
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is damaged, or not whole", found=str(error), expected="a zip archive") from error
    if _SPREADSHEET in members:
        raise UserError(f"{path} is a spreadsheet", expected="text, Parquet or Arrow", remedy="Save the sheet as CSV")
    # What macOS puts beside each file is no file of the archive's maker.
    members = [name for name in members if not name.startswith("__MACOSX/")]
    if not members:
        raise UserError(f"{path} has no files in it", expected="an archive of files")
    return [Content(path, wrapping, name) for name in members]


def _unpacked(file: BinaryIO, content: Content) -> BinaryIO:
    if content.wrapping is Wrapping.GZIP:
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if content.wrapping is Wrapping.ZSTD:
        return cast(BinaryIO, io.BufferedReader(_Frames(file), _BUFFER_BYTES))
    if content.wrapping is Wrapping.ZIP:
        return cast(BinaryIO, zipfile.ZipFile(file).open(content.member))
    return file


class _Frames(io.RawIOBase):
    """The content of zstd frames, of which a file may hold several."""

    def __init__(self, file: BinaryIO) -> None:
        self._stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
