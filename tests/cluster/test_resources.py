"""The definitions on a real API server: what it refuses by itself, and in which words."""

from pathlib import Path

import pytest
import yaml
from k2_testing.cluster import ROOT, RefusedError
from k2_testing.resources import feed, table

from k2_local import manifests
from k2_operator.spec.validate import parse

pytestmark = [pytest.mark.real, pytest.mark.timeout(900, func_only=True)]
CORPUS = sorted((ROOT / "tests" / "corpus" / "bad-resources").glob("*.yaml"))
ENVELOPE = ("unknown-kind",)
"""Not for an API server: it has no such resource to send it to."""


def refusals(cluster, path: Path, namespace) -> str:
    texts = []
    for document in manifests.read([path]):
        placed = yaml.safe_load(yaml.safe_dump(document))
        placed["metadata"] = placed.get("metadata", {}) | {"namespace": namespace}
        try:
            cluster.create(placed, dry_run=True)
        except RefusedError as error:
            texts.append(str(error))
    return "\n".join(texts)


@pytest.mark.parametrize("path", [each for each in CORPUS if each.stem not in ENVELOPE], ids=lambda path: path.stem)
def test_the_api_server_refuses_what_it_can_and_says_why(cluster, namespace, path):
    lines = path.read_text().splitlines()
    expected = [line.removeprefix("# server: ") for line in lines if line.startswith("# server: ")]
    assert expected, "say what the API server answers, or `# server: accepted`"
    found = refusals(cluster, path, namespace)
    if expected == ["accepted"]:
        assert found == ""
    for text in expected if expected != ["accepted"] else []:
        assert text in found


def test_the_samples_are_accepted(cluster, namespace):
    for document in manifests.read([ROOT / "manifests" / "samples"]):
        placed = document | {"metadata": document["metadata"] | {"namespace": namespace}}
        cluster.create(placed, dry_run=True)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"topic": {"partitions": 2}}, "partitions cannot become fewer"),
        ({"topic": {"partitions": 9}}, "set allowReordering: true"),
        ({"exchange": "NYSE"}, "exchange cannot change"),
        ({"assetClass": "crypto"}, "assetClass cannot change"),
    ],
    ids=["fewer", "more", "exchange", "asset-class"],
)
def test_a_change_that_would_lose_something_is_refused(cluster, namespace, change, text):
    cluster.apply(feed(namespace, "kept", topic={"partitions": 3}, suspend=True))
    with pytest.raises(RefusedError) as failure:
        cluster.patch("MarketFeed", namespace, "kept", {"spec": change})
    assert text in str(failure.value)


def test_more_partitions_are_taken_when_that_is_asked_for(cluster, namespace):
    cluster.apply(feed(namespace, "kept", topic={"partitions": 3}, suspend=True))
    change = {"topic": {"partitions": 9, "allowReordering": True}}
    changed = cluster.patch("MarketFeed", namespace, "kept", {"spec": change})
    assert changed["spec"]["topic"]["partitions"] == 9


def test_a_table_does_not_change_what_it_is(cluster, namespace):
    cluster.apply(table(namespace))
    for change, text in (
        ({"schema": "quotes"}, "schema cannot change"),
        ({"identifier": "a.b"}, "identifier cannot change"),
        ({"decimals": "wide"}, "decimals cannot change: Iceberg never changes a scale"),
    ):
        with pytest.raises(RefusedError) as failure:
            cluster.patch("IcebergTable", namespace, "trades", {"spec": change})
        assert text in str(failure.value)


COLUMNS = [
    {"name": "lots", "type": "int"},
    {"name": "edge", "type": "decimal(9,4)"},
    {"name": "tags", "type": "map<string,string>"},
]


@pytest.mark.parametrize(
    ("then", "text"),
    [
        (COLUMNS[:2], "a column cannot go by leaving it out: what its rows hold there would be lost"),
        ([], "a column cannot go by leaving it out"),
        ([*COLUMNS[:2], {"name": "labels", "type": "map<string,string>"}], "a new name for it takes `was`"),
        ([{"name": "lots", "type": "string"}, *COLUMNS[1:]], "a column cannot change its type but to a wider one"),
        ([{"name": "size", "type": "float", "was": "lots"}, *COLUMNS[1:]], "cannot change its type but to a wider one"),
        ([COLUMNS[0], {"name": "edge", "type": "decimal(8, 4)"}, COLUMNS[2]], "a decimal to more digits of the same"),
        ([COLUMNS[0], {"name": "edge", "type": "decimal(12, 5)"}, COLUMNS[2]], "a decimal to more digits of the same"),
        ([{"name": "lots", "type": "int", "required": True}, *COLUMNS[1:]], "a further column cannot be required"),
    ],
)
def test_an_edit_of_the_columns_that_would_lose_or_change_values_is_refused(cluster, namespace, then, text):
    cluster.apply(table(namespace, columns=COLUMNS))
    with pytest.raises(RefusedError) as failure:
        cluster.patch("IcebergTable", namespace, "trades", {"spec": {"columns": then}})
    assert text in str(failure.value)


def test_columns_are_added_renamed_and_widened_by_an_edit(cluster, namespace):
    cluster.apply(table(namespace))  # as it was before there were columns
    cluster.apply(table(namespace, columns=COLUMNS))
    then = [
        {"name": "size_in_lots", "type": "long", "was": "lots"},
        {"name": "edge", "type": "decimal(18, 4)"},
        {"name": "tags", "type": "map<string, string>"},
        {"name": "auction", "type": "boolean", "doc": "Whether it was made in an auction."},
    ]
    for _ in range(2):  # `was` may stay
        changed = cluster.apply(table(namespace, columns=then))
        assert {each["name"]: each["type"] for each in changed["spec"]["columns"]} == {
            each["name"]: each["type"] for each in then
        }


def test_what_the_server_has_filled_in_the_planner_reads(cluster, namespace):
    for manifest in (table(namespace), feed(namespace, suspend=True)):
        filled = cluster.create(manifest, dry_run=True)
        parsed, errors = parse(filled)
        bare, _ = parse(manifest)
        assert errors == []
        assert parsed.spec == bare.spec


def test_every_field_can_be_explained(cluster):
    found = cluster.request("GET", "/openapi/v3/apis/k2.dev/v1alpha1")
    spec = found["components"]["schemas"]["dev.k2.v1alpha1.MarketFeed"]["properties"]["spec"]
    assert spec["properties"]["source"]["description"] == "Where the events come from. Exactly one of its fields."
