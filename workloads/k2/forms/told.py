"""What a client may be told of what the world did: no path of this server and no SQL. The log has all of it. Pure."""

from __future__ import annotations

import re

# What an SQL catalog's driver adds to its own words, up to the end.
_SQL = re.compile(r"\s*(?:\[SQL: |\(Background on this error at: ).*", re.DOTALL)
# The folders of a file on this machine, as a path or as a URI. Paths of the service's own routes stay.
_FOLDERS = re.compile(r"(?:\b(?:sqlite|file):/*|(?<![\w:/.-]))/(?!v1/)(?:[^\s/'\"]+/)*(?=[^\s/'\"])")


def told(text: str) -> str:
    """The text without the folders of files, and without the statement that failed.

    >>> told("Failed to open local file '/srv/k2/warehouse/trades/data/1.parquet'")
    "Failed to open local file '1.parquet'"
    """
    return _FOLDERS.sub("", _SQL.sub("", text))
