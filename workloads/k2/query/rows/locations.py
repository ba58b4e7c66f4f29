"""Where the tables' files lie, as DuckDB wants it said: local paths as they are, object stores by one scheme. Pure."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

_REMOTE = ("s3://", "s3a://", "s3n://")


def is_remote(path: str) -> bool:
    """Whether the path is in an object store."""
    return path.startswith(_REMOTE)


def local_path(location: str) -> str:
    """An Iceberg location as DuckDB wants it: `file:` URLs become paths, others stay."""
    if location.startswith("file:"):
        return unquote(urlsplit(location).path)
    return "s3://" + location.split("://", 1)[1] if is_remote(location) else location
