"""Which rows of a data file delete files take out: by their places in it, and by values. Columns, not rows.

Other engines delete so without writing the data file anew (merge-on-read). A question leaves such rows out, so an audit must not
count them. Which delete files apply to which data file, `k2.lake.scan` has decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO

from k2.lake.scan import DataFileRef, DeleteFileRef
from k2.model.compute import pc
from k2.model.lru import Lru

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_PATH, _POSITION = 2_147_483_546, 2_147_483_545
"""Ids that the specification reserves for the columns of a file of position deletes."""

_KEPT_FILES = 64


@dataclass(slots=True)
class DeletedRows:
    """Reads the delete files of a table's snapshot, each once as long as it is one of the last few.

    Args:
        io: the table's.
    """

    io: FileIO
    _tables: Lru[str, dict[int, pa.ChunkedArray]] = field(default_factory=lambda: Lru(_KEPT_FILES))

    def of(self, file: DataFileRef) -> Mask | None:
        """Which rows of the file are deleted; None where a delete file is no Parquet file, and nobody here can say.

        Raises:
            OSError, pa.ArrowException, ValueError: a file cannot be read.
        """
        if not all(delete.parquet for delete in file.deletes):
            return None
        gone = np.zeros(file.rows, dtype=np.bool_)
        for delete in file.deletes:
            columns = self._columns(delete)
            if delete.equality_ids:
                gone |= self._equal(file, delete.equality_ids, columns)
            else:
                here = pc.equal(columns[_PATH].cast(pa.string()), file.path).to_numpy(zero_copy_only=False)
                places = columns[_POSITION].to_numpy()[here]
                gone[places[(places >= 0) & (places < len(gone))]] = True
        return gone

    def _columns(self, delete: DeleteFileRef) -> dict[int, pa.ChunkedArray]:
        held = self._tables.get(delete.path)
        if held is None:
            held = self._tables.put(delete.path, self._read(delete.path, delete.equality_ids or (_PATH, _POSITION)))
        return held

    def _read(self, path: str, ids: Sequence[int]) -> dict[int, pa.ChunkedArray]:
        """The columns of a Parquet file by field id; those that it does not have are left out."""
        with self.io.new_input(path).open() as stream:
            parquet = pq.ParquetFile(stream)
            names = {_field_id(each): each.name for each in parquet.schema_arrow}
            wanted = {number: names[number] for number in ids if number in names}
            rows = parquet.read(columns=list(wanted.values()), use_threads=False)
        return {number: _plain(rows.column(name)) for number, name in wanted.items()}

    def _equal(self, file: DataFileRef, ids: Sequence[int], deleted: dict[int, pa.ChunkedArray]) -> Mask:
        """The rows that have the values of one of the deleted ones; null equals null, as the specification has it."""
        held = self._read(file.path, ids)
        mine = np.zeros(file.rows, dtype=np.int64)
        theirs = np.zeros(len(deleted[ids[0]]), dtype=np.int64)
        for number in ids:
            values = deleted[number]
            different = values.unique()
            # The file may be older than the column: then its rows have null there.
            column = held[number].cast(values.type) if number in held else pa.nulls(file.rows, values.type)
            width = len(different) + 1
            mine, theirs = mine * width + _codes(column, different), theirs * width + _codes(values, different)
            # Numbered anew at each column, so that they stay small however many there are.
            tuples = np.unique(theirs)
            mine, theirs = _places(mine, tuples), _places(theirs, tuples)
        return np.isin(mine, theirs)


def _codes(values: pa.Array | pa.ChunkedArray, different: pa.Array) -> Ints:
    """The place of each value among the different ones; those that are not among them come last."""
    places = pc.index_in(values, value_set=different, skip_nulls=False)
    return pc.fill_null(places.cast(pa.int64()), len(different)).to_numpy(zero_copy_only=False)


def _places(numbers: Ints, among: Ints) -> Ints:
    """The same of numbers among sorted ones."""
    at = np.minimum(np.searchsorted(among, numbers), max(0, len(among) - 1))
    return np.where(among[at] == numbers, at, len(among)) if len(among) else np.zeros_like(numbers)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids as the bytes that they are: Arrow compares no extension types."""
    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)


def _field_id(column: pa.Field) -> int | None:
    number = (column.metadata or {}).get(b"PARQUET:field_id")
    return None if number is None else int(number)
