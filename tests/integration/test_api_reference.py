"""The OpenAPI document holds: what it allows is answered as it says, its examples run, and nonsense is refused."""

from datetime import timedelta
from decimal import Decimal

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from k2_testing.lake import make_lake
from k2_testing.service import KEY, serving
from k2_testing.ticks import append_ticks, at
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from k2.model.topics import DataType

OPEN = at("2014-03-09T23:00:00")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    lake = make_lake(folder, *DataType)
    for symbol in ("BHP", "CBA"):
        append_ticks(
            lake,
            [{"timestamp": OPEN + timedelta(seconds=n), "symbol": symbol, "price": Decimal(n + 1)} for n in range(20)],
        )
        sides = {
            "bid_price": Decimal(1),
            "bid_quantity": Decimal(1),
            "ask_price": Decimal(2),
            "ask_quantity": Decimal(1),
        }
        append_ticks(lake, [{"timestamp": OPEN, "symbol": symbol} | sides], DataType.QUOTES)
    with serving(folder) as found:
        yield found


@pytest.fixture(scope="module")
def api(client):
    return schemathesis.openapi.from_asgi("/openapi.json", client.app)


# What a person means by a valid question is more than a schema says (a reversed range, an unknown snapshot).
LEFT_OUT = [positive_data_acceptance]
# In a URL all is text: `symbols=true` asks for a symbol of that name. Bodies have types.
OF_TEXT = [*LEFT_OUT, negative_data_rejection]
# This service knows no Kafka; test_api_dead_letters.py has one that does.
OF_KAFKA = {"/v1/dead-letters"}
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]


@pytest.mark.parametrize("mode", MODES, ids=["what it allows", "what it does not"])
def test_no_answer_but_those_that_the_document_names(api, mode):
    asked = 0
    for found in api.get_all_operations():
        operation = found.ok()
        if operation.path in ("/", "/metrics", "/docs"):
            continue

        @settings(
            max_examples=25, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def answers_as_documented(case):
            case.call_and_validate(
                headers={"X-API-Key": KEY}, excluded_checks=OF_TEXT if case.method == "GET" else LEFT_OUT
            )

        try:
            answers_as_documented()
        except Unsatisfiable:  # nothing of this operation can be wrong
            continue
        asked += 1
    assert asked >= 10


def operations(document):
    return [
        (method, path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if path.startswith("/v1/")
    ]


def example(schema):
    return schema["examples"][0] if schema.get("examples") else None


def test_the_documents_examples_run(client):
    document = client.get("/openapi.json").json()
    snapshot = client.get("/v1/snapshots").json()["current_snapshot_id"]
    pin = client.post("/v1/pins", json={}).json()["pin"]
    real = {"snapshot": snapshot, "pin": pin, "from": snapshot}
    asked = 0
    for method, path, operation in operations(document):
        query, filled = {}, path
        for parameter in operation.get("parameters", ()):
            value = example(parameter["schema"]) or example(parameter)
            if parameter["in"] == "path":
                filled = filled.replace(f"{{{parameter['name']}}}", str(value or real[parameter["name"]]))
            elif value is not None:
                query[parameter["name"]] = value
            elif parameter["name"] == "from":
                query["from"] = snapshot
        body = None
        if "requestBody" in operation:
            name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            members = document["components"]["schemas"][name]["properties"]
            body = {key: value for key, member in members.items() if (value := example(member)) is not None}
        reply = client.request(method, filled, params=query, json=body)
        if path in OF_KAFKA:
            assert reply.status_code == 404, reply.text
            continue
        assert reply.status_code in (200, 201, 204), (method, filled, query, body, reply.text)
        asked += 1
    assert asked >= 12


NONSENSE = [
    "NaN",
    "-1",
    "1e309",
    "0x10",
    "'; DROP TABLE trades; --",
    '" OR 1=1 --',
    "${jndi:ldap://x}",
    "../../etc/passwd",
    "\u202e",
    "\U0001d7d8",
    "9" * 400,
    "%s%n",
    "null",
    "[]",
    " ",
]


@pytest.mark.parametrize("value", NONSENSE)
def test_nonsense_in_any_parameter_is_a_documented_answer(client, value):
    document = client.get("/openapi.json").json()
    for method, path, operation in operations(document):
        if method != "get":
            continue
        for parameter in operation.get("parameters", ()):
            filled, query = (
                path,
                {"symbol": "BHP"}
                if any(p["name"] == "symbol" and p["in"] == "query" for p in operation["parameters"])
                else {},
            )
            for other in operation["parameters"]:
                if other["in"] == "path":
                    given = value if other is parameter else example(other) or example(other["schema"]) or "1"
                    filled = filled.replace(f"{{{other['name']}}}", given.replace("/", "%2F").replace("%s", "%25s"))
            if parameter["in"] == "query":
                query[parameter["name"]] = value
            reply = client.get(filled, params=query)
            assert str(reply.status_code) in operation["responses"] or reply.status_code == 404, (
                filled,
                query,
                reply.text,
            )
            assert reply.status_code < 500, (filled, query, reply.text)
            if reply.status_code >= 400:
                assert reply.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/v1/bars", {"symbol": "BHP", "interval": "1h"}),
        ("/v1/bars/{symbol}", {"date": "2014-03-10", "empty": "null", "interval": "1h"}),
        ("/v1/summary", {"symbol": "BHP", "date": "2014-03-10"}),
        ("/v1/symbols", {}),
        ("/v1/date-range", {"symbol": "CBA"}),
    ],
)
def test_the_document_gives_types_to_what_is_added_up_and_listed(client, path, params):
    document = client.get("/openapi.json").json()
    schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    named = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    body = client.get(path.format(symbol="BHP"), params=params).json()
    jsonschema_rs.validate(named, body)
    assert set(body) == set(named["properties"])
    if "data" in body:
        assert set(body["data"][0]) == set(named["properties"]["data"]["items"]["properties"])
