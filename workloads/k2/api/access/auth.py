"""The keys that open the service, kept in step with their file: a changed file is read again at once.

The file holds digests, so reading it opens nothing. Kubernetes changes a mounted Secret by exchanging a symbolic link,
which the file's identity shows as any other change.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from k2.api.access.keys import ApiKey, digest_of, parse_keys, prefix_of
from k2.obs import metrics
from k2.obs.logging import get_logger
from k2.query.rows.visibility import EVERYTHING, Sight

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KnownKey:
    """An entry with what each request needs of it, worked out once. `id`: what requests of the key are counted under."""

    entry: ApiKey
    id: str
    sight: Sight = EVERYTHING


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The entries by prefix; those without are under None."""

    stamp: tuple[int, ...]
    keys: dict[str | None, tuple[KnownKey, ...]] = field(default_factory=dict)


def _now() -> datetime:
    return datetime.now(UTC)


class KeyRing:
    """The keys that open /v1. Without a file, or with a broken one from the start, there are none: all is refused.

    A file that breaks later leaves the last good keys in force, and the log says so.
    """

    def __init__(self, path: Path | None, *, now: Callable[[], datetime] = _now) -> None:
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None
        if path is None:
            _log.warning("keys.not_configured", refused="/v1")

    def find(self, key: str) -> KnownKey | None:
        """The entry that the key belongs to, or None; the caller looks at its times.

        Takes the same time wherever the key differs. The prefix is no secret: that it is known may show. Where several
        entries are of the same key, one that opens now is preferred.
        """
        prefix, digest = prefix_of(key), digest_of(key)
        keys = self._keys()
        candidates = keys.get(None, ())
        if prefix is not None:
            candidates += keys.get(prefix, ())
        found: KnownKey | None = None
        for known in candidates:
            same = hmac.compare_digest(known.entry.sha256.lower(), digest)
            if same and (found is None or self.state(found) != "active"):
                found = known
        return found

    def state(self, known: KnownKey) -> str:
        """`active`, `pending` or `expired`, now."""
        return known.entry.state(self._now())

    def __bool__(self) -> bool:
        """Whether there is any key."""
        return bool(self._keys())

    def _keys(self) -> dict[str | None, tuple[KnownKey, ...]]:
        if self._path is None:
            return {}
        with self._lock:
            stamp = _stamp(self._path)
            if self._loaded is None or self._loaded.stamp != stamp:
                before = {} if self._loaded is None else self._loaded.keys
                self._loaded = _Loaded(stamp, _read(self._path, before))
            return self._loaded.keys


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def _read(path: Path, before: dict[str | None, tuple[KnownKey, ...]]) -> dict[str | None, tuple[KnownKey, ...]]:
    try:
        entries = parse_keys(path.read_text())
    except (OSError, ValueError) as error:
        reason = str(error) if isinstance(error, ValueError) else error.strerror or type(error).__name__
        held = sum(len(keys) for keys in before.values())
        _log.error("keys.not_read", file=str(path), reason=reason, keys_in_force=held)
        metrics.KEY_FILE_READS.labels("failed").inc()
        return before
    found: dict[str | None, tuple[KnownKey, ...]] = {}
    for entry in entries:
        known = KnownKey(entry, entry.prefix or entry.sha256[:8].lower(), entry.sight)
        found[entry.prefix] = (*found.get(entry.prefix, ()), known)
    _log.info("keys.read", file=str(path), keys=len(entries))
    metrics.KEY_FILE_READS.labels("read").inc()
    return found
