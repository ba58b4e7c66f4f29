"""Every file format by its name, and what reads it: a name in `FormatName`, a module beside this one, a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from k2.feeds.formats.asx_csv import asx
from k2.feeds.formats.generic_csv import generic
from k2.feeds.formats.layouts import FileFormat, Files
from k2.model.errors import UserError
from k2.model.sources import FormatName

FORMATS: Mapping[FormatName, Callable[[Files], FileFormat]] = {FormatName.ASX: asx, FormatName.GENERIC: generic}


def file_format(name: str, files: Files) -> FileFormat:
    """How files are read.

    Raises:
        UserError: no format has that name, or it cannot read such files.
    """
    try:
        chosen = FormatName(name)
    except ValueError:
        raise UserError("Unknown format", found=name, expected=" or ".join(FormatName)) from None
    return FORMATS[chosen](files)
