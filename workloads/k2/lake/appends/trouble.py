"""What a catalog, a store or a broker says of a try that failed, for a person: on one line, and whether it is about credentials.

Their drivers raise what they like; which of it means a wrong password only the words tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pyiceberg.exceptions import AuthorizationExpiredError, ForbiddenError, OAuthError, UnauthorizedError

_REFUSE_ACCESS = (UnauthorizedError, ForbiddenError, AuthorizationExpiredError, OAuthError)
# PostgreSQL's words, REST catalogs', S3's as Arrow and others write them, Kafka's and the registry's.
_ACCESS = re.compile(
    r"authentication failed|no password supplied|role \S+ does not exist|permission denied for|not.?authorized|unauthorized"
    r"|forbidden|access.?denied|refuses access|authorization failed|invalid.?access.?key|signature.?does.?not.?match"
    r"|invalid.?client.?token|expired.?token|token.?(?:has )?expired",
    re.IGNORECASE,
)
# What SQLAlchemy adds: the statement, and a page about its own error.
_ADDED = re.compile(r"\n\[SQL: .*|\n?\(Background on this error at: .*", re.DOTALL)

CREDENTIALS = (
    "Put credentials that are taken, with the rights that it needs, into the Secret that platform.yaml names for it"
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a try came to nothing.

    Args:
        said: for a person, with the remedy where it is known.
        of_access: credentials or rights were refused, which waiting does not mend.
    """

    said: str
    of_access: bool = False

    @classmethod
    def of(cls, error: BaseException | str) -> Trouble:
        """What an error says, or one that was raised because of it; or what is only known as a text."""
        text = " ".join(_ADDED.sub("", str(error)).split()) or repr(error)
        if not any(isinstance(each, _REFUSE_ACCESS) or _ACCESS.search(str(each)) for each in _chain(error)):
            return cls(text)
        return cls(f"access is refused: {text.rstrip('.')}. {CREDENTIALS}", of_access=True)


def _chain(error: BaseException | str) -> Iterator[BaseException | str]:
    found: BaseException | str | None = error
    while found is not None:
        yield found
        found = found.__cause__ if isinstance(found, BaseException) else None
