"""The two families of error: the user's, which retrying cannot mend, and the world's, which it may."""

from __future__ import annotations


class K2Error(Exception):
    """Base of every error that K2 raises on purpose."""


class UserError(K2Error):
    """Something the user wrote cannot be used. Never retried.

    Args:
        what: one sentence on what is wrong, with where it stands (`side of line 4 of trades.csv`).
        found: the offending value as it was read, or None when nothing was found.
        expected: what would have been right.
        remedy: what to do about it.
    """

    def __init__(self, what: str, *, found: object = None, expected: str = "", remedy: str = "") -> None:
        self.what = what
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(what, found, expected, remedy)

    def __str__(self) -> str:
        text = self.what.rstrip(".")
        if self.found is not None:
            text += f": found {self.found!r}"
        if self.expected:
            text += f", expected {self.expected}"
        text = _ended(text)
        return f"{text} {_ended(self.remedy.rstrip('.'))}" if self.remedy else text


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith("?") else f"{sentence}."


class WorldError(K2Error):
    """Something outside did not do what it should (a broker, a store). Retried with backoff by who can."""


class StoreError(WorldError):
    """The object store (or the disk) behind the catalog did not do as asked: its address, its credentials, its rights."""


class DamagedError(StoreError):
    """A file of a table is gone or broken: waiting makes nothing better. A person has to bring it back (`k2 audit` names it)."""


class CredentialsError(WorldError):
    """What K2 was given to get in with is not taken, or lacks the rights. Not a user's mistake: a password that is rotated is refused a while."""


class RefusedError(UserError):
    """Going on would lose or double data, so K2 stops and says what a person has to decide."""
