"""`k2.connect`: a running service, or a catalog that is read in this process; what is not given comes from the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import SecretStr

from k2.client.connection import Connection
from k2.client.protocol import Client
from k2.client.shape import PriceType, Progress, Shape
from k2.model.errors import UserError
from k2.model.settings import Settings, settings


def connect(
    url: str | None = None,
    *,
    key: str | None = None,
    catalog: Mapping[str, str] | None = None,
    local: bool = False,
    live: bool = False,
    tables: Mapping[str, str | Sequence[str]] | None = None,
    price_type: PriceType = "decimal",
    progress: Progress = False,
) -> Connection:
    """Connect to a query service, or open a catalog in this process. Nothing is asked before the first question.

    What is not given comes from the environment (`K2_API_URL`, `K2_API_KEY`, `K2_CATALOG_PROPERTIES`, …) and from what
    `k2 up` left in the data directory.

    Args:
        url: of a service, such as "http://127.0.0.1:8000".
        key: its API key.
        catalog: PyIceberg's properties of a catalog that is to be read here, instead of a service.
        local: read the settings' catalog here.
        live: of a catalog: answers hold what is in the topics (the settings' Kafka and registry) beyond the tables.
        tables: of a catalog: "trades", "quotes" → the table, or several that answer together, the main one first.
        price_type: of all rows, where a question does not say another: exact decimals, or floats to compute with.
        progress: of all answers, likewise: True writes the rows so far on stderr, a function is called with them.

    Raises:
        UserError: there is neither an address nor a catalog, or both are given.
    """
    shape = Shape(price_type, progress=progress)
    here = local or live or catalog is not None or tables is not None
    if here and (url is not None or key is not None):
        raise UserError(
            "Both a service and a catalog are given", expected="url and key, or catalog, local, live and tables"
        )
    found = settings()
    if here:
        return Connection(_opened(found, catalog, tables, live=live), shape)
    if url is None and found.api_url is None and found.catalog_properties:
        return Connection(_opened(found, None, None, live=False), shape)
    from k2.client.remote import Remote

    update: dict[str, Any] = {} if url is None else {"api_url": url}
    update |= {} if key is None else {"api_key": SecretStr(key)}
    return Connection(Remote(found.model_copy(update=update)), shape)


def _opened(
    found: Settings,
    catalog: Mapping[str, str] | None,
    tables: Mapping[str, str | Sequence[str]] | None,
    *,
    live: bool,
) -> Client:
    try:
        from k2.client.local import Local
    except ImportError as error:
        raise UserError(
            f"A catalog cannot be read here: {error.name} is not installed",
            remedy="pip install 'k2-market-data[lake,query]', or connect to a service by its URL",
        ) from error
    update: dict[str, Any] = {} if catalog is None else {"catalog_properties": dict(catalog), "tables": {}}
    if tables is not None:
        update["tables"] = {each: names if isinstance(names, str) else tuple(names) for each, names in tables.items()}
    return Local(found.model_copy(update=update), live=live)
