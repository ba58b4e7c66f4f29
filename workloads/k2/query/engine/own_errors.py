"""What DuckDB says of somebody's own SQL, told to them: its words, where in the text, and what there is instead. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import duckdb

from k2.model.errors import DamagedError, K2Error, WorldError
from k2.query.engine.unreadable import unreadable
from k2.query.rows.errors import AbandonedError, SqlError, TooLargeError

_KIND = re.compile(r"^([A-Za-z -]+ Error): ")
_PLACE = re.compile(r"\n+(LINE \d+: .*)", re.DOTALL)
_NO_TABLE = re.compile(r"Table with name (\S+) does not exist")
_NO_COLUMN = re.compile(r"(?:Referenced column|column named|does not have a column named) \"([^\"]+)\"")
# A table of DuckDB's own is never what was meant.
_OWN_TABLE = re.compile(r' Did you mean "(?:pg_|duckdb_|sqlite_|pragma_|information_schema)[^"]*"\?')
_PRODUCT = re.compile(r"Overflow in multiplication of DECIMAL")
_WORLDS = ("HTTP Error", "Internal Error", "FATAL Error", "Fatal Error", "INTERNAL Error")
_MOST_PLACE = 1_000
_CLOSE = 0.6


@dataclass(frozen=True, slots=True)
class Readable:
    """What a statement may read, for what is said of it where it is wrong.

    Attributes:
        columns: of each view that it may read.
        names: of all views.
        problems: name → why there is no such view now.
        roots: folders that the views' files lie in.
        memory_limit: of the database.
    """

    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    names: tuple[str, ...] = ()
    problems: Mapping[str, K2Error] = field(default_factory=dict[str, K2Error])
    roots: tuple[str, ...] = ()
    memory_limit: str = ""


def told(error: Exception, known: Readable) -> K2Error:
    """The error to raise. From a reader DuckDB's errors come through Arrow, which keeps no more than their text."""
    text = str(error)
    kind = found[1] if (found := _KIND.match(text)) else ""
    if isinstance(error, duckdb.InterruptException) or kind == "INTERRUPT Error":
        return AbandonedError("The SQL was stopped")
    if isinstance(error, duckdb.OutOfMemoryException) or kind == "Out of Memory Error":
        return TooLargeError(
            "The SQL needs more memory than it may take",
            expected=f"at most {known.memory_limit}",
            remedy="Write SET memory_limit = '8GB'; before it, or read fewer rows at a time",
        )
    if any(root in text for root in known.roots):
        damaged = unreadable("SQL", text)
        return damaged if isinstance(damaged, DamagedError) else WorldError(f"A file of a table cannot be read: {text}")
    if isinstance(error, OSError) and not isinstance(error, duckdb.Error):
        return WorldError(f"The SQL could not be run: {text}")
    if kind in _WORLDS:
        return WorldError(f"The SQL could not be run: {text}")
    place = found[1].rstrip() if (found := _PLACE.search(text)) else ""
    words = _OWN_TABLE.sub("", " ".join(_PLACE.sub("", text).split()))
    if missing := _NO_TABLE.search(text):
        name = missing[1].strip('"').rstrip("!")
        problem = known.problems.get(name)
        return problem or SqlError(words, _short(place), _tables(name, known, text))
    if missing := _NO_COLUMN.search(text):
        return SqlError(words, _short(place), _columns(missing[1], known, text))
    if _PRODUCT.search(text):
        return SqlError(words, _short(place), "Give one factor more digits: price::DECIMAL(28, 8) * quantity.")
    return SqlError(words, _short(place))


def _short(place: str) -> str:
    return place if len(place) <= _MOST_PLACE else ""


def _tables(name: str, known: Readable, text: str) -> str:
    close = difflib.get_close_matches(name, known.names, 1, _CLOSE)
    meant = f"Did you mean {close[0]}? " if close and f'"{close[0]}"' not in text else ""
    return f"{meant}Tables here: {', '.join(known.names)}." if known.names else "There are no tables here."


def _columns(name: str, known: Readable, text: str) -> str:
    everywhere = [column for columns in known.columns.values() for column in columns]
    close = difflib.get_close_matches(name, everywhere, 1, _CLOSE)
    meant = f"Did you mean {close[0]}? " if close and f'"{close[0]}"' not in text else ""
    return meant + " ".join(f"Columns of {view}: {', '.join(columns)}." for view, columns in known.columns.items())
