"""From a file's columns of text to those of an event, by a mapping's rules: tables of values, units, joined columns, constants.

Rules work on the distinct values of a block, once each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.feeds.formats.columns import trimmed
from k2.feeds.formats.csv_blocks import Rows
from k2.model.compute import pc
from k2.model.events import SCALE, SIDES
from k2.model.mapping.shape import AmountRule, ConditionsRule, NameRule, OwnIdRule, SideRule, ValueRule

_WHOLE = r"^-?[0-9]+$"
_SPARE_ZEROS = r"^(-?[0-9]+)(?:\.0*|(\.[0-9]*[1-9])0+)$"
_ENOUGH = Context(prec=80)


@dataclass(frozen=True, slots=True)
class SourceValue:
    """What one file tells of one value of an event.

    Attributes:
        rule: the mapping's.
        columns: the file's columns that it reads, in the rule's order; none where it is a constant.
        value: the constant.
        nulls: texts that mean none, the rule's and the mapping's.
    """

    rule: ValueRule
    columns: Sequence[str]
    value: str | None = None
    nulls: Sequence[str] = ()

    def texts(self, rows: Rows) -> pa.Array:
        """The column as it is in the file, without blanks around and without what means none: encoded, or plain where it came so."""
        if self.value is not None:
            return _constant(self.value, len(rows))
        columns = [self._without_nulls(_clean(rows.columns[name])) for name in self.columns]
        if len(columns) == 1:
            return columns[0]
        return _joined([plain(column) for column in columns], self.rule)

    def _without_nulls(self, values: pa.Array) -> pa.Array:
        if not self.nulls:
            return values
        nulls = pa.array(self.nulls, pa.string())
        return _on_distinct(values, lambda distinct: pc.if_else(pc.is_in(distinct, nulls), "", distinct))


def told_column(rows: Rows, told: SourceValue) -> pa.Array:
    """The texts of a value as K2 writes it."""
    values, rule = told.texts(rows), told.rule
    if isinstance(rule, AmountRule):
        return _on_distinct(values, lambda distinct: _in_units(distinct, rule))
    if isinstance(rule, NameRule):
        if rule.values:
            values = _on_distinct(values, lambda distinct: _looked_up(distinct, rule.values))
        return _on_distinct(values, pc.utf8_upper) if rule.upper else values
    return values


def sides(rows: Rows, rule: SideRule, encoded: pa.DictionaryArray) -> pa.StringArray:
    """The side of each trade; one that the table does not have is rejected, or is what the rule says of others."""
    table = {value.upper(): side for value, side in rule.values.items()} | {"": rule.values.get("", "UNKNOWN")}
    # A loop over the distinct sides of a block: a handful.
    found = [table.get(text.upper(), rule.otherwise) for text in encoded.dictionary.to_pylist()]
    index = encoded.indices.to_numpy(zero_copy_only=False)
    unknown = np.array([side is None for side in found], dtype=bool)
    if unknown.any():
        names = list(rule.values) if set(rule.values) != set(SIDES) else list(SIDES)
        expected = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
        texts = encoded.dictionary
        rows.reject(unknown[index], lambda row: f"side must be {expected}, found {texts[int(index[row])].as_py()!r}")
    return pa.array([side or "UNKNOWN" for side in found], pa.string()).take(encoded.indices)


def condition_codes(values: pa.DictionaryArray, rule: ConditionsRule) -> pa.Array:
    """Lists of codes: the texts split as the rule says, each code as its table has it."""
    kind = pa.list_(pa.field("item", pa.string(), nullable=False))
    split = re.compile(f"[{re.escape(rule.separator)}]+").split if rule.separator else list[str]
    # A loop over the distinct values of a block: a few codes.
    lists = [
        [rule.values.get(code, code) for part in split(text) if (code := part.strip())]
        for text in values.dictionary.to_pylist()
    ]
    return pa.array(lists, kind).take(values.indices)


def rows_of_kind(rows: Rows, only: Mapping[str, Sequence[str]]) -> npt.NDArray[np.bool_]:
    """Which rows have one of the values that count, in every column that says it."""
    counts = np.ones(len(rows), dtype=bool)
    for name, values in only.items():
        encoded = encode(_clean(rows.columns[name]))
        known = pc.is_in(encoded.dictionary, pa.array(values, pa.string())).to_numpy(zero_copy_only=False)
        counts &= known[encoded.indices.to_numpy(zero_copy_only=False)]
    return counts


def encode(values: pa.Array) -> pa.DictionaryArray:
    """Texts as indices of their distinct ones."""
    return values if isinstance(values, pa.DictionaryArray) else values.dictionary_encode()


def plain(values: pa.Array) -> pa.StringArray:
    """Texts, one a row."""
    return values.dictionary.take(values.indices) if isinstance(values, pa.DictionaryArray) else values


def _clean(values: pa.Array) -> pa.Array:
    return _on_distinct(values, trimmed)


def _on_distinct(values: pa.Array, change: Callable[[Any], Any]) -> pa.Array:
    if isinstance(values, pa.DictionaryArray):
        return pa.DictionaryArray.from_arrays(values.indices, change(values.dictionary))
    return change(values)


def _constant(value: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int32)), pa.array([value]))


def _joined(columns: Sequence[pa.StringArray], rule: ValueRule) -> pa.StringArray:
    empty = pa.scalar(None, pa.string())
    given = [pc.if_else(pc.equal(column, ""), empty, column) for column in columns]
    joined = pc.binary_join_element_wise(*given, rule.joint, null_handling="skip")
    if isinstance(rule, OwnIdRule):
        # The last column is the id itself: where it says nothing, the others are no id.
        joined = pc.if_else(pc.equal(columns[-1], ""), "", joined)
    return joined


def _looked_up(distinct: pa.StringArray, table: Mapping[str, str]) -> pa.StringArray:
    at = pc.index_in(distinct, pa.array(table.keys(), pa.string()))
    return pc.coalesce(pa.array(table.values(), pa.string()).take(at), distinct)


def _in_units(distinct: pa.StringArray, rule: AmountRule) -> pa.StringArray:
    """Amounts in ones of our unit, as plain decimals; what is no number stays as it is, for it is rejected later."""
    unit = rule.unit.adjusted()
    if unit:
        distinct = _scaled(distinct, unit)
    elif rule.whole_unit is not None and (whole := pc.match_substring_regex(distinct, _WHOLE)).true_count:
        # Those with a point were taken as they are.
        distinct = pc.if_else(whole, _scaled(pc.if_else(whole, distinct, "0"), rule.whole_unit.adjusted()), distinct)
    # Vendors fill up with zeros: 31.545000000 has nine places, and a value of three.
    points = pc.find_substring(distinct, ".").to_numpy(zero_copy_only=False)
    places_behind = pc.binary_length(distinct).to_numpy(zero_copy_only=False) - points - 1
    if not ((points >= 0) & (places_behind > SCALE)).any():
        return distinct
    return pc.replace_substring_regex(distinct, _SPARE_ZEROS, r"\1\2")


def _scaled(distinct: pa.StringArray, places: int) -> pa.StringArray:
    """Numbers times a power of ten, exactly: their point moves."""
    whole = pc.match_substring_regex(distinct, _WHOLE)
    moved = _moved(pc.if_else(whole, distinct, "0"), places)
    if whole.true_count == len(distinct):
        return moved
    # A loop over distinct values that are not whole: with a unit of their own, few files have any.
    others = [
        text if is_whole else _times(text, places)
        for text, is_whole in zip(distinct.to_pylist(), whole.to_pylist(), strict=True)
    ]
    return pc.if_else(whole, moved, pa.array(others, pa.string()))


def _moved(whole: pa.StringArray, places: int) -> pa.StringArray:
    if places > 0:
        return pc.if_else(pc.equal(whole, "0"), whole, pc.binary_join_element_wise(whole, "0" * places, ""))
    sign = pc.if_else(pc.starts_with(whole, "-"), "-", "")
    digits = pc.utf8_lpad(pc.utf8_ltrim(whole, "-"), 1 - places, "0")
    before, behind = pc.utf8_slice_codeunits(digits, 0, places), pc.utf8_slice_codeunits(digits, places)
    return pc.binary_join_element_wise(pc.binary_join_element_wise(sign, before, ""), behind, ".")


def _times(text: str, places: int) -> str:
    try:
        return f"{Decimal(text).scaleb(places, _ENOUGH):f}"
    except InvalidOperation:
        return text
