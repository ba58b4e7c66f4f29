"""Clients that outlive the credentials they were made with: settings are read again when they are used, and compared.

There is no thread and no watch. Whoever is about to use a client looks, at most every few seconds, and what was rotated
counts from then on; what is under way ends with what it has.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from k2.model.errors import K2Error
from k2.obs.logging import get_logger

log = get_logger(__name__)

LOOK_SECONDS = 5.0
"""Between two looks at the settings: a kubelet takes a minute or more to write what a Secret says."""

ClientSettings = Mapping[str, str] | Callable[[], Mapping[str, str]]
"""Settings of a client, or what reads those of now: `Settings.kafka_config`, `.registry_config`, `.catalog_config`."""

T = TypeVar("T")


def as_now(settings: ClientSettings) -> Mapping[str, str]:
    """The settings as they are now."""
    return settings() if callable(settings) else settings


class Watched:
    """Settings of a client that lives long; for threads that look one at a time.

    Args:
        settings: the client's.
        look_seconds: between two looks.

    Attributes:
        now: the settings as of the last look.

    Raises:
        UserError: they cannot be read. Later they stay as they were then: a Secret may be half written.
    """

    def __init__(self, settings: ClientSettings, look_seconds: float = LOOK_SECONDS) -> None:
        self._settings = settings
        self._look_seconds = look_seconds
        self._looked = time.monotonic()
        self._said = ""
        self.now = dict(as_now(settings))

    def look(self) -> bool:
        """Read them again where it is time; whether that was done. It costs nothing before."""
        if not callable(self._settings) or time.monotonic() - self._looked < self._look_seconds:
            return False
        self._looked = time.monotonic()
        try:
            self.now = dict(self._settings())
        except K2Error as error:
            if str(error) != self._said:
                log.warning("credentials.not_read", reason=str(error))
            self._said = str(error)
            return False
        self._said = ""
        return True


class Renewed(Generic[T]):
    """What is made of settings: at its first use, and again when they have changed. Threads may share it.

    Args:
        settings: what it is made of.
        make: makes it.
        what: its name, for the log.
        close: ends one that was followed by another. None: others may still be at work with it, and it ends with them.
        look_seconds: between two looks at the settings.
    """

    def __init__(
        self,
        settings: ClientSettings,
        make: Callable[[Mapping[str, str]], T],
        what: str,
        *,
        close: Callable[[T], object] | None = None,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._settings, self._make, self._what, self._close = settings, make, what, close
        self._look_seconds = look_seconds
        self._lock = threading.Lock()
        self._watched: Watched | None = None
        self._held: tuple[T, Mapping[str, str]] | None = None

    def now(self) -> T:
        """The one that is made of the settings of now.

        Where it cannot be made (a password is in the file before the server takes it), the one before serves on, and it is
        tried again at the next look.

        Raises:
            UserError, WorldError: what reading the settings or making the first one raised.
        """
        with self._lock:
            if self._watched is None or self._held is None:
                # Read at each try: what could not be made may have had credentials that are not taken any more.
                self._watched = Watched(self._settings, self._look_seconds)
                made = self._make(self._watched.now)
                self._held = made, self._watched.now
                return made
            made, made_of = self._held
            if self._watched.look() and self._watched.now != made_of:
                return self._renewed(made, self._watched.now)
            return made

    def end(self) -> None:
        """End the one that was made last, if any was."""
        with self._lock:
            held, self._held = self._held, None
            if held is not None and self._close is not None:
                self._close(held[0])

    def _renewed(self, before: T, settings: Mapping[str, str]) -> T:
        try:
            made = self._make(settings)
        except K2Error as error:
            log.warning("credentials.not_taken", what=self._what, reason=str(error))
            return before
        self._held = made, settings
        log.info("credentials.renewed", what=self._what)
        if self._close is not None:
            self._close(before)
        return made
