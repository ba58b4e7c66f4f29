"""What can go wrong with a question. Each has its own answer over HTTP and on the command line."""

from __future__ import annotations

from k2.model.errors import UserError, WorldError


class NotFoundError(UserError):
    """Nothing that matches was ever stored."""


class AmbiguousSymbolError(UserError):
    """The symbol is traded on several exchanges: ask again with `exchange`."""


class ForbiddenError(UserError):
    """The rules of the key do not allow the question: ask another one, or with another key."""


class SnapshotGoneError(UserError):
    """The snapshot or time asked for is not retained (any more); the message names the nearest ones."""


class NotAdjustableError(UserError):
    """Reference data gives no factors for the question: the message says what stands in the way."""


class TooLargeError(UserError):
    """The question needs more memory than a query may take: narrow it."""


class UnreadableError(UserError):
    """The table holds what this engine must not ignore and cannot honour (deletes that are not Parquet)."""


class SqlError(UserError):
    """Somebody's own SQL cannot be run: DuckDB's words, the place in the text, and what there is instead.

    Args:
        what: DuckDB's words, in one line.
        place: the line of the text with a mark under the place, or nothing.
        remedy: what to write instead.
    """

    def __init__(self, what: str, place: str = "", remedy: str = "") -> None:
        self.place = place
        super().__init__(what, remedy=remedy)

    def __str__(self) -> str:
        return "\n".join(part for part in (self.what, self.place, self.remedy) if part)


class QueryTimeoutError(WorldError):
    """The query ran over its deadline and was stopped."""


class EngineBusyError(WorldError):
    """No connection came free within the deadline: ask again later."""


class AbandonedError(WorldError):
    """The one who asked went away: the query was stopped, and its answer is for nobody."""
