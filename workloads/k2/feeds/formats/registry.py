"""What reads each named format: `asx` is code, all others are mappings (`k2.model.mapping`), and so is a person's own."""

from __future__ import annotations

from pathlib import Path

from k2.feeds.formats.asx_csv import asx
from k2.feeds.formats.layouts import FileFormat, Files
from k2.feeds.formats.mapped import MappedFiles
from k2.model.errors import UserError
from k2.model.mapping.named import ASX, mapping_for, shipped
from k2.model.mapping.reading import parse_mappings


def file_format(name: str, files: Files) -> FileFormat:
    """How files of a named format are read.

    Raises:
        UserError: no format has that name, or it cannot read such files.
    """
    if name == ASX:
        return asx(files)
    mappings = shipped(name)
    if not any(mapping.data_type == files.data_type for mapping in mappings) and files.data_type == "reference_data":
        raise UserError(
            f"The format {name} has no {files.data_type}", expected="trades or quotes", remedy="Use --format asx"
        )
    return MappedFiles(mapping_for(mappings, files.data_type), files)


def own_format(path: Path, files: Files) -> FileFormat:
    """How files are read that a person's mapping describes.

    Raises:
        UserError: the mapping cannot be read or used, or is of another kind of data.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"The mapping {path} cannot be read", found=str(error), expected="a YAML file, as in docs/mappings.md"
        ) from error
    return MappedFiles(mapping_for(parse_mappings(text, f"The mapping {path}"), files.data_type), files, own=True)
