"""Where files lie: Iceberg's locations and the paths of this machine, each as the other says it. Pure.

A location is no URL: PyIceberg takes its path as it stands, so `%41` is three characters of a name, and a partition value
that was quoted once (`symbol=A%2FB`) is a folder of that very name.
"""

from __future__ import annotations

from pathlib import Path

_REMOTE = ("s3://", "s3a://", "s3n://")


def is_remote(location: str) -> bool:
    """Whether it is in an object store."""
    return location.startswith(_REMOTE)


def local_path(location: str) -> str:
    """A location as DuckDB and this machine want it: of `file:` the path, object stores by one scheme, others as they are."""
    if location.startswith("file://"):
        return "/" + location.removeprefix("file://").partition("/")[2]
    if location.startswith("file:"):
        return location.removeprefix("file:")
    return "s3://" + location.split("://", 1)[1] if is_remote(location) else location


def location_of(folder: Path) -> str:
    """The location of a folder of this machine, whatever its name is: `local_path` gives the folder back."""
    path = str(folder.absolute())
    # Of a URL PyIceberg would leave out what follows these; a path it takes as it is.
    return path if "#" in path or "?" in path else f"file://{path}"
