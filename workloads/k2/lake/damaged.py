"""Metadata of a table that is gone or broken, told as what it is: waiting makes nothing better, and the other tables are well."""

from __future__ import annotations

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import ValidationError
from pyiceberg.table import Table

from k2.lake.scan import SnapshotFiles, snapshot_files
from k2.model.errors import DamagedError, K2Error, WorldError

_REMEDY = "Waiting makes nothing better: it has to be brought back"


def load_whole(catalog: Catalog, identifier: str) -> Table:
    """The table as it is now.

    Raises:
        DamagedError: its metadata file is gone or broken.
        Exception: whatever else PyIceberg and the catalog's driver raise.
    """
    try:
        return catalog.load_table(identifier)
    except FileNotFoundError as error:
        raise _gone(identifier, error) from error
    except (ValueError, ValidationError) as error:
        if not isinstance(catalog, SqlCatalog):  # what a server says wrongly it may say rightly the next time
            raise
        raise DamagedError(f"The metadata file of {identifier} is broken: {type(error).__name__}. {_REMEDY}") from error


def files_of(table: Table, identifier: str, snapshot_id: int) -> SnapshotFiles:
    """The files of a snapshot by its manifests.

    Raises:
        DamagedError: a manifest is gone or broken.
        WorldError: the store does not answer.
        UserError: the table does not have that snapshot.
    """
    try:
        return snapshot_files(table, snapshot_id)
    except K2Error:
        raise
    except FileNotFoundError as error:
        raise _gone(identifier, error) from error
    except OSError as error:
        raise WorldError(f"The manifests of {identifier} cannot be read: {error}") from error
    except Exception as error:  # whatever a file that is none does to its reader
        raise DamagedError(f"A manifest of {identifier} is broken: {type(error).__name__}. {_REMEDY}") from error


def _gone(identifier: str, error: FileNotFoundError) -> DamagedError:
    return DamagedError(f"A file of the metadata of {identifier} is missing: {error}. {_REMEDY}")
