"""From the text of a mapping file to mappings, or to what is wrong with it: which field, what was found, what was expected."""

from __future__ import annotations

import difflib
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from k2.model.errors import UserError
from k2.model.mapping.shape import (
    AmountRule,
    ClockRule,
    ConditionsRule,
    DateRule,
    FileMapping,
    NameRule,
    OwnIdRule,
    SideRule,
    TimeRule,
    ValueRule,
)


def parse_mappings(text: str, where: str) -> tuple[FileMapping, ...]:
    """The mappings of a file: one, or one for each kind of data (documents of the YAML).

    Args:
        text: the file's content.
        where: what the file is called in errors.

    Raises:
        UserError: it is no mapping; says which field, what was found and what was expected.
    """
    try:
        documents = list(yaml.load_all(text, Loader=yaml.BaseLoader))
    except yaml.YAMLError as error:
        raise UserError(f"{where} is no YAML", found=" ".join(str(error).split())[:200]) from error
    if not documents:
        raise UserError(f"{where} is empty", expected="a mapping, as docs/mappings.md describes it")
    return tuple(_parsed(document, where) for document in documents)


def _parsed(document: Any, where: str) -> FileMapping:
    if not isinstance(document, dict):
        raise UserError(
            f"{where} is no mapping", found=str(document)[:80], expected="fields with values, as in docs/mappings.md"
        )
    try:
        return FileMapping.model_validate(document)
    except ValidationError as error:
        raise _explained(error, where) from None


def _explained(error: ValidationError, where: str) -> UserError:
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-"))
    if first["type"] == "extra_forbidden":
        known = [to_camel(name) for name in _fields_at(first["loc"][:-1])]
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        expected = near[0] if near else f"one of {', '.join(known)}" if known else ""
        return UserError(f"{where} has a field that no mapping has", found=path, expected=expected)
    if first["type"] == "missing":
        return UserError(f"{where} lacks {path}", expected="a value, as docs/mappings.md describes it")
    what = first["msg"].removeprefix("Value error, ")
    if not path:
        return UserError(f"{where}: {what}")
    found = first["input"]
    shown = found if isinstance(found, (str, int, float)) else None
    expected = what.removeprefix("expected ") if what.startswith("expected ") else what[:1].lower() + what[1:]
    return UserError(f"{where}: {path} cannot be used", found=shown, expected=expected)


def _fields_at(path: tuple[int | str, ...]) -> tuple[str, ...]:
    """The fields of the model at a place of a mapping; empty where that is not one of a mapping's own parts."""
    rules: dict[str, type[BaseModel]] = {
        "time": TimeRule,
        "symbol": NameRule,
        "currency": NameRule,
        "id": OwnIdRule,
        "sequence": ValueRule,
        "side": SideRule,
        "conditions": ConditionsRule,
    }
    names = [to_camel(str(part)) for part in path if not str(part).startswith("function-")]
    if not names:
        return tuple(FileMapping.model_fields)
    if names[0] == "vendor":
        return tuple(ValueRule.model_fields)
    if names[0] == "time" and len(names) > 1:
        return tuple((DateRule if names[1] == "date" else ClockRule).model_fields)
    return tuple(rules.get(names[0], AmountRule).model_fields)
