"""What a catalog says no to for good: the same request would be refused at each try, because of what a person has asked for.

PyIceberg and catalogs raise whatever they like about a value; what is of a network, of a proxy's answer or of somebody else's
commit is the world's, and is not touched here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import pydantic
from pyiceberg.exceptions import BadRequestError, ResolveError, RESTError, ValidationError

from k2.model.errors import K2Error, UserError

_FOR_NOW = frozenset({401, 403, 404, 408, 409, 419, 425, 429})
"""HTTP statuses of the 400s that are not about the values of a request, or not for good."""

_PLUMBING = ("requests", "urllib3", "http", "json", "sqlalchemy")


def is_refusal(error: BaseException) -> bool:
    """Whether it is the values of a request that are not taken, by the catalog or by PyIceberg on the way there."""
    if isinstance(error, (BadRequestError, ResolveError, ValidationError)):
        return True
    if isinstance(error, RESTError):
        status = getattr(getattr(error.__cause__, "response", None), "status_code", None)
        return isinstance(status, int) and 400 <= status < 500 and status not in _FOR_NOW
    if isinstance(error, pydantic.ValidationError):
        return not error.title.endswith("Response")  # a proxy's page in place of the catalog's answer
    ours = not isinstance(error, K2Error) and not type(error).__module__.startswith(_PLUMBING)
    return ours and isinstance(error, (ValueError, TypeError, ArithmeticError))


@contextlib.contextmanager
def refused_as_asked(identifier: str) -> Generator[None]:
    """Turn what is not taken of a table's description into a `UserError`; all else passes as it is."""
    try:
        yield
    except Exception as error:
        if not is_refusal(error):
            raise
        raise UserError(
            f"Table {identifier} cannot be made as its IcebergTable describes it ({type(error).__name__}): {error}",
            remedy="Change what the message names: partitionSpec, sortOrder, columns or properties",
        ) from error
