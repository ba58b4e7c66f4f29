"""The formats that have a name: `asx`, which is code, and the mappings that ship with K2, each a file beside this one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from k2.model.errors import UserError
from k2.model.mapping.reading import parse_mappings
from k2.model.mapping.shape import FileMapping

ASX, GENERIC = "asx", "generic"
_FOLDER = Path(__file__).parent / "shipped"
SHIPPED = tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))
"""The named formats that are mappings: to add one is to add its file."""
FORMATS = (ASX, *SHIPPED)

if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[FORMATS]


@cache
def shipped(name: str) -> tuple[FileMapping, ...]:
    """The mappings of a named format: one for each kind of data that its files hold; none for `asx`.

    Raises:
        UserError: no format has that name.
    """
    if name == ASX:
        return ()
    if name not in SHIPPED:
        raise UserError("Unknown format", found=name, expected=f"one of {', '.join(FORMATS)}")
    return parse_mappings(shipped_text(name), f"The format {name}")


def shipped_text(name: str) -> str:
    """The mapping file of a named format that is one, as it ships."""
    return (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def names_symbols(name: str) -> bool:
    """Whether a format's files say of which symbol their rows are; else who loads them says it for all."""
    return name != ASX and all(mapping.symbol is not None for mapping in shipped(name))


def mapping_for(mappings: tuple[FileMapping, ...], data_type: str) -> FileMapping:
    """The mapping of that kind of data.

    Raises:
        UserError: there is none.
    """
    for mapping in mappings:
        if mapping.data_type == data_type:
            return mapping
    kinds = " or ".join(mapping.data_type for mapping in mappings)
    raise UserError(f"Files of the format {mappings[0].name} have no {data_type}", expected=kinds)
