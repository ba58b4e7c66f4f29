"""API keys: the file holds SHA-256 digests, so reading it opens nothing; a changed file is read again at once."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from k2.obs.logging import get_logger

_log = get_logger(__name__)


class ApiKey(BaseModel):
    """One entry of the file: a name for logs, and the SHA-256 of the key in hex."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-fA-F]{64}$")


_KEYS = TypeAdapter(tuple[ApiKey, ...])


@dataclass(frozen=True, slots=True)
class _Loaded:
    stamp: tuple[int, int, int]
    keys: tuple[ApiKey, ...]


class KeyRing:
    """The keys that open /v1. Without a file, or with a broken one from the start, there are none: all is refused.

    A file that breaks later leaves the last good keys in force, and the log says so.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None
        if path is None:
            _log.warning("no file of API keys is configured: every request to /v1 is refused")

    def name_of(self, key: str) -> str | None:
        """The name of the entry that the key belongs to, or None. Takes the same time wherever the key differs."""
        digest = hashlib.sha256(key.encode()).hexdigest()
        found: str | None = None
        for entry in self._keys():
            if hmac.compare_digest(entry.sha256.lower(), digest):
                found = entry.name
        return found

    def __bool__(self) -> bool:
        """Whether there is any key."""
        return bool(self._keys())

    def _keys(self) -> tuple[ApiKey, ...]:
        if self._path is None:
            return ()
        with self._lock:
            stamp = _stamp(self._path)
            if self._loaded is None or self._loaded.stamp != stamp:
                before = () if self._loaded is None else self._loaded.keys
                self._loaded = _Loaded(stamp, _read(self._path, before))
            return self._loaded.keys


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _read(path: Path, before: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
    try:
        keys = _KEYS.validate_python(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        # A ValidationError's text would repeat what the file holds.
        reason = "wrong entries" if isinstance(error, ValidationError) else type(error).__name__
        _log.error("the file of API keys cannot be used", file=str(path), reason=reason, keys_in_force=len(before))
        return before
    _log.info("API keys read", file=str(path), keys=len(keys))
    return keys
