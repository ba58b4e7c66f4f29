"""The CRDs: written from the models, complete, and structural as Kubernetes wants them."""

from pathlib import Path

import pytest
import yaml

from k2_operator.spec import crds
from k2_operator.spec.resources import IcebergTableSpec, MarketFeedSpec
from k2_operator.spec.validate import parse

ROOT = Path(__file__).parents[2]
DEFINITIONS = crds.definitions()


def schema_of(name):
    return DEFINITIONS[name]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def places(node, path=""):
    yield path, node
    for name, each in node.get("properties", {}).items():
        yield from places(each, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from places(node[key], f"{path}[]")


@pytest.mark.parametrize("name", DEFINITIONS)
def test_the_charts_files_are_what_the_models_say(name):
    written = (ROOT / crds.CHART / f"{name}.yaml").read_text()
    assert written == crds.as_template(DEFINITIONS[name]), "run `make crds`"


@pytest.mark.parametrize("name", DEFINITIONS)
def test_without_helms_lines_a_file_is_the_definition(name):
    lines = (ROOT / crds.CHART / f"{name}.yaml").read_text().splitlines()
    assert [line for line in lines if "{{" in line] == [lines[0], lines[1], lines[-1]]
    assert yaml.safe_load("\n".join(lines[2:-1])) == DEFINITIONS[name]


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_field_is_described_and_nothing_is_by_reference(name):
    for path, node in places(schema_of(name)):
        assert "type" in node or node.get("x-kubernetes-preserve-unknown-fields"), path
        assert not {"$ref", "anyOf", "title", "const"} & set(node), path
        # Of metadata nothing may be said: it is Kubernetes' own.
        if not path.endswith("[]") and path != ".metadata":
            assert node.get("description"), path


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_list_and_text_that_cel_looks_at_has_a_bound(name):
    for path, node in places(schema_of(name)["properties"]["spec"]):
        if node.get("type") == "array":
            assert "maxItems" in node, path


@pytest.mark.parametrize("name", DEFINITIONS)
def test_it_is_found_by_kubectl_get_k2(name):
    names = DEFINITIONS[name]["spec"]["names"]
    assert names["categories"] == ["k2"]
    assert names["shortNames"] == [{"marketfeeds": "mf", "icebergtables": "it"}[name]]


def test_a_feeds_columns_answer_whether_it_is_well():
    columns = DEFINITIONS["marketfeeds"]["spec"]["versions"][0]["additionalPrinterColumns"]
    shown = [column["name"].upper() for column in columns if not column.get("priority")]
    assert shown == ["EXCHANGE", "STREAMS", "READY", "RATE", "LAG", "FRESHNESS", "GAPS", "AGE"]


def test_scale_acts_on_the_sinks_replicas():
    scale = DEFINITIONS["marketfeeds"]["spec"]["versions"][0]["subresources"]["scale"]
    assert scale == {"specReplicasPath": ".spec.sink.replicas", "statusReplicasPath": ".status.sinkReplicas"}


def defaults(node):
    """What the API server fills in for an absent or empty object."""
    filled = {}
    for name, each in node.get("properties", {}).items():
        if "default" in each:
            filled[name] = each["default"] if each["type"] != "object" else {**each["default"], **defaults(each)}
    return filled


@pytest.mark.parametrize(
    ("name", "model"), [("marketfeeds", MarketFeedSpec), ("icebergtables", IcebergTableSpec)], ids=["feed", "table"]
)
def test_the_api_servers_defaults_are_the_planners(name, model):
    filled = defaults(schema_of(name)["properties"]["spec"])
    kind, rest = (
        (
            "MarketFeed",
            {
                "source": {"external": {}},
                "exchange": "ASX",
                "streams": [{"dataType": "trades", "tableRef": {"name": "t"}}],
            },
        )
        if model is MarketFeedSpec
        else ("IcebergTable", {"identifier": "a.b", "schema": "trades"})
    )
    envelope = {"apiVersion": "k2.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"}}
    bare, errors = parse(envelope | {"spec": rest})
    assert errors == []
    full, errors = parse(envelope | {"spec": filled | rest})
    assert errors == []
    assert bare.spec == full.spec
