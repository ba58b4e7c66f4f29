"""Files that are to be deleted are noted first, in a list that a person can read and undo, and deleted by a later run.

A list is a JSON file in the table's folder, `metadata/k2-noted/`. In between, whoever still reads a file that nothing refers to any more
comes to an end; and who sees in the list what must not go deletes the list, or its line, and it stays.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
from pyiceberg.table import Table

from k2.lake.catalog import TableSource, load_table
from k2.lake.upkeep.referred import Folder, Referred, StoredFile
from k2.model.errors import StoreError
from k2.model.times import iso, parse_time
from k2.obs.logging import get_logger

FOLDER = "metadata/k2-noted"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NotedFile:
    """A file on a list: what it was when it was noted. It is deleted only while it is still that."""

    path: str
    bytes: int
    modified_us: int | None


@dataclass(frozen=True, slots=True)
class NotedList:
    """One list. `path`: where it lies."""

    path: str
    noted_us: int
    reason: str
    files: tuple[NotedFile, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """A table's folder: what lies in it, the lists in it, and the table as it was loaded after that.

    What is referred to is asked after what is there: whatever a commit has brought in between is referred to.
    """

    table: Table
    folder: Folder
    there: list[StoredFile]
    lists: list[NotedList]

    @classmethod
    def of(cls, catalog: TableSource, identifier: str) -> Survey:
        """Look around. Raises a `UserError` or a `StoreError` as `Folder` and `lists_of` do."""
        table = load_table(catalog, identifier)
        folder = Folder.of(table)
        there, lists = folder.files(), lists_of(table, folder)
        return cls(load_table(catalog, identifier), folder, there, lists)

    def due(self, delay_us: int, now_us: int) -> list[NotedList]:
        """The lists whose time has come."""
        return [each for each in self.lists if each.noted_us + delay_us <= now_us]


@dataclass(frozen=True, slots=True)
class Emptied:
    """What `empty` has done: files that were deleted and their bytes; those that stayed since something refers to them or they changed."""

    deleted: int = 0
    bytes: int = 0
    kept: int = 0


def note(table: Table, files: Sequence[StoredFile], reason: str, now_us: int) -> str | None:
    """Write a list of files that a later run may delete; where it lies. None: there is nothing to note."""
    if not files:
        return None
    at = datetime.fromtimestamp(now_us / 1e6, UTC)
    path = f"{table.location().rstrip('/')}/{FOLDER}/{at:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}.json"
    content = {
        "table": ".".join(table.name()),
        "table_uuid": str(table.metadata.table_uuid),
        "noted": iso(now_us),
        "reason": reason,
        "undo": "Delete this file, or the lines of what is to stay, before the next run.",
        "files": [{"path": file.path, "bytes": file.bytes, "modified_us": file.modified_us} for file in files],
    }
    with table.io.new_output(path).create() as stream:
        stream.write(json.dumps(content, indent=1).encode())
    log.info("files.noted", table=content["table"], files=len(files), list=path)
    return path


def lists_of(table: Table, folder: Folder) -> list[NotedList]:
    """The lists of a table, oldest first. One that is not readable, or another table's, is a `StoreError`: a person wrote in it."""
    found: list[NotedList] = []
    for file in folder.files(FOLDER):
        if not file.path.endswith(".json"):
            continue
        try:
            with folder.system.open_input_stream(file.path) as stream:
                content = json.loads(stream.read())
            if content["table_uuid"] != str(table.metadata.table_uuid):
                continue  # of a table that was here before
            files = tuple(NotedFile(each["path"], each["bytes"], each["modified_us"]) for each in content["files"])
            found.append(NotedList(file.path, parse_time(content["noted"], "noted"), content["reason"], files))
        except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"The list {file.path} cannot be read: {error!r}. Mend it, or delete it") from error
    return sorted(found, key=lambda each: each.noted_us)


def empty(survey: Survey, lists: Collection[NotedList], referred: Referred) -> Emptied:
    """Delete what these lists name, and then the lists.

    A file stays that anything refers to, or that is not what it was when it was noted.

    Args:
        survey: the table's folder as it is now.
        lists: those whose time has come.
        referred: what the table refers to now.
    """
    now, folder = {file.path: file for file in survey.there}, survey.folder
    deleted = size = kept = 0
    for each in lists:
        for file in each.files:
            found = now.get(file.path)
            if found is None:
                continue  # gone already
            if file.path in referred or (found.bytes, found.modified_us) != (file.bytes, file.modified_us):
                kept += 1
                continue
            folder.delete(file.path)
            deleted, size = deleted + 1, size + file.bytes
        folder.delete(each.path)
    return Emptied(deleted, size, kept)
