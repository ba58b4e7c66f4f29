"""How long a call to the catalog or the object store may take, where PyIceberg and its drivers would wait without end.

The limits hold for a silence: a server that goes on answering, however slowly, is not broken off.
"""

from __future__ import annotations

import select
from functools import partial
from importlib.util import find_spec
from typing import Any, cast

import pyiceberg.catalog
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.typedef import Properties

ANSWER_SECONDS = 60.0
"""How long a catalog may be silent: a sink, a load or the operator has nothing better to do than to wait for it."""

CONNECT_SECONDS = 10.0
"""How long a connection to a REST catalog may take."""

POSTGRESQL_SECONDS = 20.0
"""How long a PostgreSQL catalog may be silent. One for the whole process: the driver knows no other way."""

STORE_CONNECT_SECONDS, STORE_ANSWER_SECONDS = 3.0, 5.0
"""How long a connection to the object store, and its silence, may take at each of the SDK's three tries."""

_ANSWER = "k2.answer-seconds"


class BoundedRestCatalog(RestCatalog):
    """PyIceberg's client, whose session by itself waits for ever. Its property `k2.answer-seconds` says how long it may."""

    def _create_session(self) -> Any:
        session: Any = super()._create_session()
        answer = float(self.properties.get(_ANSWER, ANSWER_SECONDS))
        # Every request of the session, the ones for its tokens too.
        session.request = partial(session.request, timeout=(min(CONNECT_SECONDS, answer), answer))
        return session


def with_limits(properties: dict[str, str], answer_seconds: float) -> dict[str, str]:
    """The catalog's properties with limits for its kind; what they say of limits themselves stays.

    Args:
        properties: PyIceberg's.
        answer_seconds: how long the catalog may be silent; a PostgreSQL one has a limit of its own.
    """
    pyiceberg.catalog.AVAILABLE_CATALOGS[pyiceberg.catalog.CatalogType.REST] = _load_rest
    uri = properties.get("uri", "")
    found = {
        "s3.connect-timeout": str(STORE_CONNECT_SECONDS),
        "s3.request-timeout": str(STORE_ANSWER_SECONDS),
        _ANSWER: str(answer_seconds),
        **properties,
    }
    if uri.startswith("sqlite:") and "timeout=" not in uri:
        # Several sinks commit to one file; without a wait the second gets "database is locked".
        found["uri"] = f"{uri}{'&' if '?' in uri else '?'}timeout={answer_seconds:g}"
    if uri.startswith("postgres") and find_spec("psycopg2") is not None:
        _bound_postgresql()
    return found


def _load_rest(name: str, conf: Properties) -> Catalog:
    return BoundedRestCatalog(name, **cast(dict[str, str], conf))


def _bound_postgresql() -> None:
    from psycopg2.extensions import set_wait_callback

    # `connect_timeout` ends before the first statement, `statement_timeout` is kept by the server that has gone silent.
    set_wait_callback(_wait)


def _wait(connection: Any) -> None:
    from psycopg2 import OperationalError
    from psycopg2.extensions import POLL_OK, POLL_READ

    while (state := connection.poll()) != POLL_OK:
        waited = [connection.fileno()]
        reading, writing = (waited, []) if state == POLL_READ else ([], waited)
        if not any(select.select(reading, writing, [], POSTGRESQL_SECONDS)):
            raise OperationalError(f"PostgreSQL was silent for {POSTGRESQL_SECONDS:g} s")
