"""How settings name the tables that questions are answered from. Apart from what a table is: who reads settings needs no columns."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field


def names_of(names: TableNames) -> tuple[str, ...]:
    """The identifiers, one or several."""
    return (names,) if isinstance(names, str) else names


def _each_once(names: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if len(set(names_of(names))) < len(names_of(names)):
        raise ValueError("a table, or a list of several, each once")
    return names


_Several = Annotated[tuple[str, ...], Field(min_length=1, json_schema_extra={"uniqueItems": True})]
TableNames = Annotated[str | _Several, AfterValidator(_each_once)]
"""Identifier of the table of a data type that questions are answered from; or those of several, the main one first."""
