"""Credentials are changed while sink, producer and query service run: rows go on, each once, and no process is another one.

Each time the server changes first, takes only the new password and cuts off who is connected; the files follow when the workloads
are seen to be refused, as a kubelet brings them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import httpx
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from k2_testing.cluster import until
from k2_testing.controlplane import UnavailableError, free_port
from k2_testing.events import START_US, message_id, trades
from k2_testing.guarded import USER, MountedSecret, ScramKafka, Store, running_postgresql
from k2_testing.lake import TRADES, held
from k2_testing.rest_catalog import Proxy
from k2_testing.service import KEY
from k2_testing.sinks import ready

from k2.bus.admin import TopicSpec, end_offsets, ensure_topics
from k2.bus.producer import EventProducer
from k2.bus.registry import Schemas
from k2.lake.catalog import open_named
from k2.lake.offsets import recorded_offsets
from k2.lake.proof.audit import audit_table
from k2.lake.tables import ensure_tables
from k2.model.events import avro_schema
from k2.model.tables import builtin_table
from k2.model.topics import DataType, sink_group_id

pytestmark = [pytest.mark.real, pytest.mark.timeout(600, func_only=True)]

TOPIC = "market.equities.trades.sim"
WORKLOADS = ("sink", "producer", "query")


class Desk:
    """Guarded servers, the Secrets that open them, and the workloads between them."""

    def __init__(self, folder: Path, registry, postgresql, stack: ExitStack) -> None:
        self.folder, self.postgresql = folder, postgresql
        self.kafka = ScramKafka(folder / "kafka", logs=folder, run_dir=folder / "run")
        self.store = Store(folder)
        address = urlsplit(registry.url)
        self.registry, self.proxy = registry.url, Proxy(address.port)
        stack.callback(self.proxy.close)
        self.kafka.start()
        stack.callback(self.kafka.stop)
        self.passwords = dict.fromkeys(("kafka", "registry", "catalog", "store"), "0-first-password")
        for kind in self.passwords:
            getattr(self, f"open_{kind}")(self.passwords[kind])
        stack.callback(self.store.stop)
        self.store.make_bucket(self.passwords["store"])
        self.secrets = {name: MountedSecret(folder / "secrets" / name, each) for name, each in self.held().items()}
        self.plain = {"bootstrap.servers": self.kafka.bootstrap_servers}
        ensure_topics(self.plain, [TopicSpec(TOPIC, partitions=2), TopicSpec(f"{TOPIC}.dlq", partitions=1)])
        ensure_tables(self.catalog(), [builtin_table(each) for each in (DataType.TRADES, DataType.QUOTES)])
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("K2_")},
            "K2_KAFKA_BOOTSTRAP_SERVERS": self.kafka.guarded_servers,
            "K2_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "K2_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
            "K2_KAFKA_SECRET_DIR": str(self.secrets["kafka"].folder),
            "K2_REGISTRY_URL": self.proxy.uri + address.path,
            "K2_REGISTRY_SECRET_DIR": str(self.secrets["registry"].folder),
            "K2_CATALOG_PROPERTIES": json.dumps(self.properties()),
            "K2_CATALOG_SECRET_DIR": str(self.secrets["catalog"].folder),
            "K2_DATA_DIR": str(folder),
            "K2_LOG_FORMAT": "json",
            "PYTHONPATH": os.pathsep.join(sys.path),  # the code that is tested
        }
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        stack.callback(self.end)

    # --- the servers ------------------------------------------------------------------------------------------------

    def open_kafka(self, password: str) -> None:
        self.kafka.let_in(password)

    def open_registry(self, password: str) -> None:
        self.proxy.authorization = "Basic " + base64.b64encode(f"{USER}:{password}".encode()).decode()

    def open_catalog(self, password: str) -> None:
        self.postgresql.let_in(password)

    def open_store(self, password: str) -> None:
        self.store.restart(password)

    def takes(self, kind: str, password: str) -> bool:
        """Whether a server lets the user in with that password."""
        if kind == "kafka":
            login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-256", "sasl.username": USER}
            config = {
                "bootstrap.servers": self.kafka.guarded_servers,
                "sasl.password": password,
                "log_level": 0,
                **login,
            }
            try:
                AdminClient(config).list_topics(timeout=5)
            except KafkaException:
                return False
            return True
        if kind == "registry":
            reply = httpx.get(self.environment["K2_REGISTRY_URL"] + "/subjects", auth=(USER, password), trust_env=False)
            return reply.status_code == 200
        return (self.postgresql if kind == "catalog" else self.store).takes(password)

    def held(self) -> dict[str, dict[str, str]]:
        """What the Secrets say."""
        return {
            "kafka": {"username": USER, "password": self.passwords["kafka"] + "\n"},
            "registry": {"username": USER, "password": self.passwords["registry"]},
            "catalog": {
                "uri": self.postgresql.uri(self.passwords["catalog"]),
                "s3.access-key-id": "k2-lake",
                "s3.secret-access-key": self.passwords["store"],
            },
        }

    # --- the workloads ----------------------------------------------------------------------------------------------

    def start(self, name: str, command: str, config: dict) -> None:
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(config))
        told = {"K2_CONFIG_FILE": str(path), "K2_HTTP_PORT": str(self.port), "K2_METRICS_PORT": "0"}
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "k2", "run", command],
                env=self.environment | told,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
            )

    def start_producer(self, name: str, *symbols: str) -> None:
        self.start(
            name,
            "producer",
            {
                "feed": f"k2/{name}",
                "exchange": "SIM",
                "asset_class": "equities",
                "currency": "USD",
                "streams": [{"data_type": "trades", "topic": TOPIC, "table": TRADES}],
                "source": {
                    "type": "synthetic",
                    "symbols": symbols,
                    "start": "2026-01-05",
                    "days": 0,
                    "events_per_second": 40,
                    "quotes_per_trade": 0,
                },
            },
        )

    def start_all(self) -> None:
        keys = self.folder / "keys.json"
        keys.write_text(json.dumps([{"name": "desk", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]))
        self.start_producer("producer", "ACME", "GLOBEX")
        group = sink_group_id(TOPIC, TRADES)
        sink = {"topic": TOPIC, "table": TRADES, "data_type": "trades", "group_id": group}
        self.start("sink", "sink", sink | {"commit_interval_seconds": 2.0})
        self.start("query", "query", {"api_keys_file": str(keys), "tail_wait_seconds": 10})
        until(lambda: ready(self.port), "the query service is not ready", why=lambda: self.log("query"))

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def end(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()

    # --- what they have done ----------------------------------------------------------------------------------------

    def properties(self) -> dict[str, str]:
        return {
            "type": "sql",
            "warehouse": "s3://lake/warehouse",
            "s3.endpoint": self.store.endpoint,
            "s3.region": "us-east-1",
        }

    def catalog(self):
        return open_named("k2", self.properties() | self.held()["catalog"])

    def sent(self) -> int:
        return sum(end_offsets(self.plain, TOPIC).values())

    def in_table(self) -> int:
        catalog = self.catalog()
        try:
            return sum(recorded_offsets(catalog.load_table(TRADES)).next_of(TOPIC).values())
        finally:
            catalog.close()

    def ask(self, since: datetime, *, hybrid: bool) -> dict | None:
        """The newest answer that has events since then; None while there is none."""
        reply = httpx.get(
            f"http://127.0.0.1:{self.port}/v1/trades",
            params={"symbol": "ACME", "start": since.isoformat(), "limit": 5, "hybrid": str(hybrid).lower()},
            headers={"X-API-Key": KEY},
            timeout=60,
            trust_env=False,
        )
        return reply.json() if reply.status_code == 200 and reply.json()["count"] else None


@pytest.fixture(scope="module")
def desk(tmp_path_factory, registry):
    with ExitStack() as stack:
        try:
            postgresql = stack.enter_context(running_postgresql())
            made = Desk(tmp_path_factory.mktemp("desk"), registry, postgresql, stack)
        except UnavailableError as error:
            pytest.skip(str(error))
        made.start_all()
        goes_on(made)
        yield made


def goes_on(desk):
    """Events of now come to the topic, the table, and answers from either."""
    since = datetime.now(UTC)
    mark = desk.sent()

    def why():
        return "\n".join(f"--- {name}\n{desk.log(name)[-3000:]}" for name in WORKLOADS)

    until(lambda: desk.sent() > mark, "the producer sends nothing", why=why)
    until(lambda: desk.in_table() > mark, "the sink commits nothing", why=why)
    until(lambda: desk.ask(since, hybrid=False), "the query service has nothing of it in the table", why=why)
    tail = until(
        lambda: (found := desk.ask(since, hybrid=True)) and "incomplete" not in found and found,
        "the query service has nothing of it in the topic",
        why=why,
    )
    assert tail["hybrid"]


@contextmanager
def rotated(desk, kind, refused=MappingProxyType({})):
    """Another password at the server, and in the files when the workloads that `refused` names have met a refusal."""
    before = {name: len(desk.log(name)) for name in WORKLOADS}
    pids = {name: desk.processes[name].pid for name in WORKLOADS}
    old = desk.passwords[kind]
    desk.passwords[kind] = f"another-password-of-{kind}"
    getattr(desk, f"open_{kind}")(desk.passwords[kind])
    assert desk.takes(kind, desk.passwords[kind])
    assert not desk.takes(kind, old), "the premise: the old password opens nothing"
    for name, words in refused.items():
        until(
            lambda name=name, words=words: any(each in desk.log(name)[before[name] :] for each in words),
            f"{name} met no refusal",
            why=lambda name=name: desk.log(name)[-3000:],
        )
    yield
    for name, secret in desk.secrets.items():
        secret.write(desk.held()[name])
    goes_on(desk)
    assert {name: desk.processes[name].pid for name in WORKLOADS} == pids
    assert [name for name in WORKLOADS if desk.processes[name].poll() is not None] == []


def test_a_password_of_kafka(desk):
    complains = ("Authentication failed", "SASL authentication error", "authentication")
    with rotated(desk, "kafka", {"sink": complains, "producer": complains}):
        pass
    for name in ("sink", "producer"):
        assert '"kafka.credentials_renewed"' in desk.log(name)


def test_a_password_of_the_catalogs_database(desk):
    with rotated(desk, "catalog", {"sink": ["commit.outcome_lost"]}):
        pass


def test_a_key_of_the_object_store(desk):
    with rotated(desk, "store", {"sink": ["commit.outcome_lost"]}):
        pass


def test_a_password_of_the_registry(desk):
    """Schemas are kept once they are known: here come messages with one that nobody has asked for yet, and another producer."""
    renamed = avro_schema(DataType.TRADES) | {"name": "TradeOfAnother"}
    schemas = Schemas({"url": desk.registry})
    number = schemas.register("trade-of-another-value", json.dumps(renamed))
    schemas.close()
    with rotated(desk, "registry"):
        with EventProducer(desk.plain, topic=TOPIC, data_type=DataType.TRADES, schema_id=number) as producer:
            ids = [message_id("reworded", each) for each in range(10)]
            times = [START_US + each for each in range(10)]
            producer.send(trades(ids, symbols=["REWORDED"] * 10, times=times, exchange="SIM"))
        desk.start_producer("late", "LATE")
        until(
            lambda: '"sink.paused"' in desk.log("sink"), "the sink met no refusal", why=lambda: desk.log("sink")[-3000:]
        )
        until(lambda: '"registry.awaited"' in desk.log("late"), "the late producer met no refusal")
        assert desk.proxy.asked["refused"]
    until(
        lambda: '"producer.started"' in desk.log("late"),
        "the late producer waits",
        why=lambda: desk.log("late")[-3000:],
    )
    rows = desk.catalog().load_table(TRADES).scan("symbol = 'REWORDED'").to_arrow()
    assert len(rows) == 10


def test_then_every_message_is_in_the_table_once(desk):
    for name in ("producer", "late"):
        process = desk.processes.pop(name, None)
        if process is not None:
            process.terminate()
            assert process.wait(120) == 0, desk.log(name)[-3000:]
    until(lambda: desk.in_table() == desk.sent(), "the sink does not come to the end")
    desk.processes["sink"].terminate()
    assert desk.processes["sink"].wait(120) == 0, desk.log("sink")[-3000:]
    catalog = desk.catalog()
    audit = audit_table(catalog.load_table(TRADES), {TOPIC: end_offsets(desk.plain, TOPIC)})
    assert audit.ok, audit
    assert set(held(catalog).values()) == {1}
    assert sum(part.rows for part in audit.partitions) == desk.sent()
