"""The words of a status: each is used, and people can look each up."""

import re
from pathlib import Path

import pytest

from k2_operator.report import status
from k2_operator.spec import conditions
from k2_operator.spec.conditions import ConditionType, EventReason, Reason

ROOT = Path(__file__).parents[2]
CODE = "\n".join(
    path.read_text() for path in (ROOT / "operator").rglob("*.py") if not path.samefile(conditions.__file__)
)
DOCUMENT = (ROOT / "docs" / "operator.md").read_text()
ROWS = {
    cells[0].strip("`"): cells
    for line in DOCUMENT.splitlines()
    if line.startswith("| `") and len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 5
}


@pytest.mark.parametrize("word", [*ConditionType, *Reason, *EventReason], ids=repr)
def test_each_is_used(word):
    assert re.search(rf"\b{type(word).__name__}\.{word.name}\b", CODE)


@pytest.mark.parametrize("kind", ConditionType)
def test_the_table_of_conditions_says_what_each_means(kind):
    _, of, gate, means, reasons = ROWS[kind]
    assert of in ("both", "feed", "table")
    assert (means, gate) == (kind.means, "yes" if kind.gate else "")
    assert reasons


def test_the_table_of_conditions_has_no_other():
    assert list(ROWS) == list(ConditionType)


@pytest.mark.parametrize("word", [*Reason, *EventReason])
def test_the_document_names_each_reason(word):
    assert f"`{word}`" in DOCUMENT


def test_the_table_of_conditions_names_no_reason_that_there_is_not():
    named = {word for cells in ROWS.values() for word in re.findall(r"`(\w+)`", cells[4])}
    assert named <= set(Reason)


def test_a_status_that_another_version_has_written_is_carried_as_far_as_it_is_understood():
    def known(reason):
        written = {"type": "Fresh", "status": "False", "reason": reason, "message": "old"}
        return status.carried({"metadata": {}, "status": {"conditions": [written]}}, (ConditionType.FRESH,))

    assert known("Stale") == {ConditionType.FRESH: status.no(Reason.STALE, "old")}
    assert known("WordOfAnotherVersion") == {}
