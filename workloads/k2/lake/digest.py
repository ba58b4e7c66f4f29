"""A digest of each data file's bytes: taken while they are written, kept in the manifest entry of the file itself.

It stands among the entry's lower bounds under a field id that no column can have. So it enters the table in the commit that
adds the file, lives as long as the file does, and costs no file and no request of its own: snapshots expire and
manifests are rewritten, by any engine, and entries are copied whole. Readers look bounds up by the ids of their
columns; those of columns that were dropped are there too, so ids that mean nothing to them are nothing new.
"""

from __future__ import annotations

import hashlib
from typing import IO, Any

from pyiceberg.manifest import DataFile

DIGEST_FIELD = 2_147_400_032
"""Below the ids that the specification reserves (the highest 200), and above any that a table will give a column."""


class DigestedStream:
    """An output stream that takes the digest of what goes through it."""

    def __init__(self, stream: Any) -> None:
        self._stream: IO[bytes] = stream
        self._hash = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> int:
        """Write on, and remember."""
        self._stream.write(data)
        self._hash.update(data)
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """As the stream."""
        self._stream.flush()

    def tell(self) -> int:
        """Bytes so far."""
        return self.bytes

    def close(self) -> None:
        """Whoever opened the stream closes it."""

    @property
    def closed(self) -> bool:
        """Whether the stream is."""
        return self._stream.closed

    @property
    def digest(self) -> bytes:
        """SHA-256 of all bytes so far."""
        return self._hash.digest()


def digest_of(file: DataFile) -> bytes | None:
    """The digest that the file had when it was written; None where another engine wrote it, or K2 before it took digests."""
    return (file.lower_bounds or {}).get(DIGEST_FIELD)
