"""The query service's app on a test's own lake, asked with a key that opens everything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from k2.api.app import create_app
from k2.model.settings import Settings
from k2.model.workload import QueryConfig
from k2_testing.lake import catalog_properties

KEY = "secret-key"


@contextmanager
def serving(folder: Path, **config: Any) -> Iterator[TestClient]:
    """A client of the service over the lake in that folder; `config` are fields of `QueryConfig`."""
    keys = folder / "keys.json"
    keys.write_text(json.dumps([{"name": "desk", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]))
    app = create_app(
        QueryConfig(**{"api_keys_file": keys} | config),
        Settings(catalog_properties=catalog_properties(folder), data_dir=folder),
    )
    with TestClient(app, raise_server_exceptions=False, headers={"X-API-Key": KEY}) as client:
        yield client


def problem(reply: Any, status: int) -> dict[str, Any]:
    """The problem that a reply tells of, checked to be whole."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = reply.json()
    assert body["status"] == status
    assert body["correlation_id"] == reply.headers["X-Correlation-ID"]
    return body
