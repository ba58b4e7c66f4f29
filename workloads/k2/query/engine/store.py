"""DuckDB and the object store: S3 by the httpfs extension of the installed wheel.

The extension is loaded from the wheel's own directory, never downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import duckdb

from k2.model.errors import WorldError

# PyIceberg's catalog properties → parameters of DuckDB's S3 secret
_SECRET = {
    "s3.access-key-id": "KEY_ID",
    "s3.secret-access-key": "SECRET",
    "s3.session-token": "SESSION_TOKEN",
    "s3.region": "REGION",
}

_RETRIES = 3


def attach_object_store(
    connection: duckdb.DuckDBPyConnection, store: Mapping[str, str], timeout_seconds: float = 30.0
) -> None:
    """Load httpfs and make the secret for S3 from PyIceberg's catalog properties (`s3.endpoint`, …).

    Args:
        connection: a root's, not yet locked.
        store: the catalog's properties.
        timeout_seconds: of a query. All tries of a request that is not answered end before it: DuckDB cannot be
            interrupted while it waits for one.

    Raises:
        WorldError: the extension is not installed for this version of DuckDB.
    """
    connection.load_extension(str(_httpfs()))
    clauses = ["TYPE s3"]
    for key, parameter in _SECRET.items():
        if key in store:
            clauses.append(f"{parameter} {_literal(store[key])}")
    endpoint = store.get("s3.endpoint")
    if endpoint:
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        clauses += [f"ENDPOINT {_literal(parts.netloc)}", f"USE_SSL {'true' if parts.scheme == 'https' else 'false'}"]
        clauses.append("URL_STYLE 'path'")
    connection.execute(f"SET GLOBAL http_timeout = {request_seconds(timeout_seconds)}")
    connection.execute(f"SET GLOBAL http_retries = {_RETRIES}")
    connection.execute(f"CREATE OR REPLACE SECRET k2_store ({', '.join(clauses)})")


def store_access(properties: Mapping[str, str]) -> Mapping[str, str]:
    """What of the catalog's properties opens the object store: where it is, and by which credentials."""
    return {key: properties[key] for key in ("s3.endpoint", *_SECRET) if key in properties}


def request_seconds(timeout_seconds: float) -> int:
    """How long one try of a request to the store may take, in queries with this deadline."""
    return max(1, min(30, int(timeout_seconds / (_RETRIES + 2))))


def _httpfs() -> Path:
    name = "httpfs.duckdb_extension"
    package = Path(str(files("duckdb_extension_httpfs")))
    found = sorted(package.glob(f"extensions/v{duckdb.__version__}/{name}"))
    if not found:
        raise WorldError(
            f"duckdb-extension-httpfs has no {name} for DuckDB {duckdb.__version__}: install the same version of both"
        )
    return found[0]


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
