"""What a client says where the service refuses, and where the packages to ask it with are not there."""

from __future__ import annotations

from k2.model.errors import K2Error, UserError, WorldError

_TOO_MANY = 429


def not_installed() -> UserError:
    """The extra that brings HTTP and WebSockets was left out."""
    return UserError("The client of the query service is not installed", remedy="pip install 'k2-market-data[client]'")


def refusal(status: int, detail: str) -> K2Error:
    """The error that a problem's status and detail tell: the one who asks can mend a `UserError`, time a `WorldError`."""
    detail = detail.rstrip(".")
    if status == 401:
        return UserError(detail, remedy="Set K2_API_KEY; `k2 up` leaves one in the data directory")
    return UserError(detail) if 400 <= status < 500 and status != _TOO_MANY else WorldError(detail)
