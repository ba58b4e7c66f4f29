"""What DuckDB says when it cannot read a file, told apart: a file that is gone or broken, or a store that did not answer. Pure."""

from __future__ import annotations

import re

from k2.model.errors import DamagedError, WorldError

_GONE = re.compile(r"No files found|No such file|HTTP (GET|HEAD|code|Error)?.*\b404\b|NoSuchKey")
_BROKEN = re.compile(
    r"No magic bytes|too small to be a Parquet|Failed to read file|TProtocolException|Decompression|Corrupt|corrupt|"
    r"Serialization Error|don't know what type|Thrift"
)
_KIND = re.compile(r"[A-Z][A-Za-z ]* Error(?=:)")
_FILE = re.compile(r"""["']([^"']+\.parquet)["']""")


def unreadable(label: str, text: str) -> WorldError:
    """The error for a client: a file's name below the table's folder, no path of the server and no SQL."""
    found = _FILE.search(text)
    path = found.group(1) if found else ""
    name = f"data/{path.rsplit('/data/', 1)[1]}" if "/data/" in path else path.rsplit("/", 1)[-1]
    which = f"file {name}" if name else "a file"
    if _GONE.search(text):
        return DamagedError(
            f"The {label} query needs {which} of the table, which is missing. {_REMEDY}; `k2 audit` names all such files"
        )
    if _BROKEN.search(text):
        return DamagedError(
            f"The {label} query needs {which} of the table, which is broken. {_REMEDY}; `k2 audit --deep` names all such files"
        )
    kind = _KIND.match(text)
    what = kind.group() if kind else "an error"
    return WorldError(f"The {label} query could not read the table's files: {what}; the service's log tells more")


_REMEDY = "Waiting makes nothing better: it has to be brought back"
