"""Files in a table's folder that nothing refers to: left by commits that failed, by snapshots that were expired. Found, noted, deleted later.

What is younger than the grace stays, and so does what the store tells no time of: a commit under way refers to its files only at its end.
A folder that holds another table, or a table whose files lie elsewhere too, is left alone as a whole.
"""

from __future__ import annotations

import gzip
import json
import posixpath
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.table import Table

from k2.lake.catalog import TableSource
from k2.lake.upkeep import scrub
from k2.lake.upkeep.noted import FOLDER, Emptied, Survey, empty, note
from k2.lake.upkeep.referred import Folder, Referred, StoredFile, keys_of, others_in, referred_files
from k2.model.errors import UserError


@dataclass(frozen=True, slots=True)
class OrphanKind:
    """Which of the files that nothing refers to are looked for.

    Attributes:
        reason: what a list says of them.
        alone: whether the folder has to be this table's alone: what a file is cannot be told from itself.
        includes: whether a file is one of them.
    """

    reason: str
    alone: bool
    includes: Callable[[Survey, StoredFile], bool]


def _is_old_metadata(survey: Survey, file: StoredFile) -> bool:
    """Whether a file is metadata of this very table; one that cannot be read is nobody's."""
    key = keys_of(file.path)[0]
    if not key.endswith(".metadata.json") or posixpath.dirname(key) != keys_of(f"{survey.folder.base}/metadata")[0]:
        return False
    try:
        with survey.folder.system.open_input_stream(file.path, compression=None) as stream:
            content = stream.read()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        return json.loads(content)["table-uuid"] == str(survey.table.metadata.table_uuid)
    except (OSError, EOFError, pa.ArrowException, ValueError, KeyError, TypeError):
        return False


ALL = OrphanKind("nothing refers to it", alone=True, includes=lambda _survey, _file: True)
OLD_METADATA = OrphanKind(
    "metadata that the table's log does not name any more", alone=False, includes=_is_old_metadata
)


@dataclass(frozen=True, slots=True)
class OrphansFound:
    """What was found and done.

    Attributes:
        files: in the folder.
        noted: files that are new on a list, to be deleted by a run after the delay.
        waiting: files on lists whose time has not come.
        young: files that nothing refers to, too young to be noted.
        emptied: what was deleted.
        list_path: where the new list lies; None: there is none.
    """

    table: str
    files: int
    noted: tuple[StoredFile, ...]
    waiting: int
    young: int
    emptied: Emptied
    list_path: str | None = None


def remove_orphans(
    catalog: TableSource,
    identifier: str,
    older_than_us: int,
    delay_us: int,
    *,
    kind: OrphanKind = ALL,
    dry_run: bool = False,
) -> OrphansFound:
    """Delete what a run before has noted, and note what is there now.

    Args:
        catalog: where the table is loaded from.
        identifier: the table.
        older_than_us: younger files stay.
        delay_us: how long a file is on a list before it is deleted.
        kind: which files.
        dry_run: only say what would be noted and deleted.

    Raises:
        UserError: there is no such table, or the folder is not this table's alone.
        StoreError: the store did not answer, or a manifest or a list cannot be read.
    """
    now_us = time.time_ns() // 1000
    survey = Survey.of(catalog, identifier)
    table, folder, there = survey.table, survey.folder, survey.there
    referred = _checked(table, folder, there) if kind.alone else referred_files(table)
    due = survey.due(delay_us, now_us)
    waiting = {key for each in survey.lists if each not in due for file in each.files for key in keys_of(file.path)}
    free = [file for file in there if file.path not in referred and not _is_own(folder, file)]
    old = [file for file in free if file.modified_us is not None and file.modified_us + older_than_us <= now_us]
    on_due = {file.path for each in due for file in each.files}
    fresh = tuple(
        file
        for file in old
        if file.path not in on_due and keys_of(file.path)[0] not in waiting and kind.includes(survey, file)
    )
    emptied = _would_empty(on_due, old) if dry_run else empty(survey, due, referred)
    return OrphansFound(
        ".".join(table.name()),
        len(there),
        fresh,
        len(waiting & {keys_of(file.path)[0] for file in there}),
        len(free) - len(old),
        emptied,
        None if dry_run else note(table, fresh, kind.reason, now_us),
    )


def _checked(table: Table, folder: Folder, there: Sequence[StoredFile]) -> Referred:
    name = ".".join(table.name())
    if (other := others_in(folder, there)) is not None:
        raise UserError(
            f"Files of {name} are not looked for: another table lies in its folder",
            found=other,
            expected=f"metadata files in {folder.base}/metadata alone",
            remedy="Move one of the tables",
        )
    referred = referred_files(table)
    if (outside := referred.outside(folder.base)) is not None:
        raise UserError(
            f"Files of {name} are not looked for: some lie outside of its folder",
            found=outside,
            expected=f"all below {folder.base}",
            remedy="A table with files elsewhere (write.data.path, an import) is kept clean by hand",
        )
    return referred


def _is_own(folder: Folder, file: StoredFile) -> bool:
    """Whether it is a list, or says how far a scrub came."""
    own = tuple(keys_of(f"{folder.base}/{each}")[0] + "/" for each in (FOLDER, scrub.FOLDER))
    return keys_of(file.path)[0].startswith(own)


def _would_empty(due: set[str], old: Sequence[StoredFile]) -> Emptied:
    gone = [file for file in old if file.path in due]
    return Emptied(len(gone), sum(file.bytes for file in gone))
