"""Checks with stable codes: one after the other, each within its time, none of which stops the others.

A check that builds on another one is left out where that one found something wrong: one broken part gives one finding, not ten.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from k2.model.errors import K2Error, UserError

LIMIT_SECONDS = 5.0
"""How long one check may take. What does not answer in that time is what is wrong."""


class Standing(StrEnum):
    """What a check has found."""

    WELL = "ok"
    DOUBTFUL = "warning"
    WRONG = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What one check says. `code` is stable: scripts and docs/doctor.md know it."""

    code: str
    group: str
    standing: Standing
    text: str
    remedy: str = ""


class WrongError(Exception):
    """A check has found something wrong: what it is, and what mends it."""

    standing = Standing.WRONG

    def __init__(self, text: str, remedy: str = "") -> None:
        self.text, self.remedy = text, remedy
        super().__init__(text, remedy)


class DoubtfulError(WrongError):
    """A check has found what works today and need not tomorrow."""

    standing = Standing.DOUBTFUL


class SkippedError(WrongError):
    """There is nothing to check here, or no way to."""

    standing = Standing.SKIPPED


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at.

    Args:
        code: its stable name, in lower case with hyphens.
        examine: says in a line what it found when all is well. Raises `WrongError` or one of its kinds, or K2's own errors.
        needs: codes of the checks without which this one says nothing.
        remedy: what mends it, where the error itself names nothing better.
        seconds: how long it may take.
    """

    code: str
    examine: Callable[[], str]
    needs: Sequence[str] = ()
    remedy: str = ""
    seconds: float = LIMIT_SECONDS


@dataclass(frozen=True, slots=True)
class Group:
    """Checks of one part. `ends` is called after the last of them, whatever they found."""

    name: str
    checks: Sequence[Check]
    ends: Callable[[], None] = field(default=lambda: None)


def examined(groups: Sequence[Group]) -> Iterator[Diagnosis]:
    """Make the checks, in order; a finding for each as soon as it is there."""
    unwell: set[str] = set()
    for group in groups:
        with _ended(group):
            for check in group.checks:
                if lacking := [code for code in check.needs if code in unwell]:
                    text = f"not looked at: {lacking[0]} comes first"
                    found = Diagnosis(check.code, group.name, Standing.SKIPPED, text)
                    unwell.add(check.code)
                else:
                    found = _examine(group.name, check)
                    unwell |= {check.code} if found.standing is Standing.WRONG else set()
                yield found


@contextmanager
def _ended(group: Group) -> Generator[None]:
    try:
        yield
    finally:
        group.ends()


def _examine(group: str, check: Check) -> Diagnosis:
    answers: queue.Queue[str | Exception] = queue.Queue()

    def examine() -> None:
        try:
            answers.put(check.examine())
        except Exception as error:  # noqa: BLE001 - drivers raise whatever they like, and the other checks go on
            answers.put(error)

    # A call that hangs is left behind: it ends with the process.
    threading.Thread(target=examine, name=f"doctor-{check.code}", daemon=True).start()
    try:
        answer = answers.get(timeout=check.seconds)
    except queue.Empty:
        return Diagnosis(check.code, group, Standing.WRONG, f"no answer within {check.seconds:g} s", check.remedy)
    if isinstance(answer, str):
        return Diagnosis(check.code, group, Standing.WELL, answer)
    return _told(group, check, answer)


def _told(group: str, check: Check, error: Exception) -> Diagnosis:
    if isinstance(error, WrongError):
        return Diagnosis(check.code, group, error.standing, error.text, error.remedy or check.remedy)
    if isinstance(error, UserError):
        text = str(UserError(error.what, found=error.found, expected=error.expected))
        return Diagnosis(check.code, group, Standing.WRONG, text, error.remedy or check.remedy)
    text = str(error) if isinstance(error, K2Error) else f"{type(error).__name__}: {error}"
    return Diagnosis(check.code, group, Standing.WRONG, text, check.remedy)
