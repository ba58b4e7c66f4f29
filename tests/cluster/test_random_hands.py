"""Random sequences of what people, clusters and nature do to a feed, and what is true of it when things are quiet again."""

import random
from dataclasses import dataclass

import pytest
from k2_testing.cluster import RefusedError, until
from k2_testing.extent import sized
from k2_testing.resources import feed, names_of, table

from k2.bus.admin import delete_topics, partition_counts

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800, func_only=True)]

MANAGED_BY, FEED = "app.kubernetes.io/managed-by", "k2.dev/feed"
KINDS = ("Deployment", "ConfigMap", "Service")
TOPIC, PARTITIONS = "market.equities.trades.sim", 3


@dataclass
class Hands:
    """One feed with its table, what was asked of it, and everything that is done to it."""

    cluster: object
    namespace: str
    operator: object
    kafka: object
    chance: random.Random
    has_table: bool = True
    is_right: bool = True
    suspended: bool = False
    has_kafka: bool = True
    replicas: int = 1

    def begin(self):
        self.cluster.apply(table(self.namespace))
        self.cluster.apply(feed(self.namespace, topic={"partitions": PARTITIONS}))

    # --- what people do ---
    def suspends_or_resumes(self):
        self.suspended = not self.suspended
        self._edit({"suspend": self.suspended})

    def makes_a_mistake_or_mends_it(self):
        self.is_right = not self.is_right
        self._edit({"sink": {"commitInterval": "2s" if self.is_right else "2d"}})  # which the API server takes

    def scales(self):
        self.replicas = self.chance.choice([1, 2, 3])
        self._edit({"sink": {"replicas": self.replicas}})

    def deletes_the_table_or_makes_it(self):
        self.has_table = not self.has_table
        if self.has_table:
            self.cluster.apply(table(self.namespace))
        else:
            self.cluster.delete("IcebergTable", self.namespace, "trades")

    def deletes_an_object(self):
        if (found := self._one()) is not None:
            self.cluster.delete(found[0], self.namespace, found[1])

    def takes_a_label_off(self):
        label = self.chance.choice([MANAGED_BY, FEED])
        if (found := self._one()) is not None:
            self._patch(*found, {"metadata": {"labels": {label: None}}})

    def edits_an_object(self):
        kind, name = self._one() or ("", "")
        if kind == "Deployment":
            self._patch(kind, name, {"spec": {"replicas": 7}})
        elif kind == "ConfigMap":
            self._patch(kind, name, {"data": {"config.json": "{}"}})

    def edits_the_status(self):
        status = self.cluster.get("MarketFeed", "sim", self.namespace).get("status") or {}
        conditions = [each | {"status": "True", "reason": "ByHand"} for each in status.get("conditions", ())]
        self.cluster.patch("MarketFeed", self.namespace, "sim", {"status": {"conditions": conditions}}, sub="status")

    # --- what nature does ---
    def kills_the_operator(self):
        self.operator.kill()
        self.operator.start()

    def takes_kafka_away_or_brings_it_back(self):
        self.has_kafka = not self.has_kafka
        if self.has_kafka:
            self.kafka.start()
        else:
            self.kafka.stop()

    def deletes_the_topic(self):
        if self.has_kafka:
            delete_topics(self._kafka(), [TOPIC])

    def ends(self):
        """Give Kafka back to those who come after."""
        if not self.has_kafka:
            self.takes_kafka_away_or_brings_it_back()

    def _kafka(self):
        return {"bootstrap.servers": self.kafka.bootstrap_servers}

    def _edit(self, change):
        self.cluster.patch("MarketFeed", self.namespace, "sim", {"spec": change})

    def _one(self):
        """Kind and name of an object of the feed's, drawn at random."""
        found = sorted(
            (kind, each["metadata"]["name"])
            for kind in KINDS
            for each in self.cluster.list(kind, self.namespace, f"{FEED}=sim")
        )
        return self.chance.choice(found) if found else None

    def _patch(self, kind, name, change):
        try:
            self.cluster.patch(kind, self.namespace, name, change)
        except RefusedError as error:
            if error.status != 404:  # it has gone since
                raise

    # --- what is true when things are quiet ---
    def expected(self):
        """`Ready` as it must be: status and reason."""
        if not self.has_table:
            return "False", "TableNotFound"
        if not self.is_right:
            return "False", "InvalidSpec"
        if not self.has_kafka:
            return "False", "KafkaUnreachable"
        return ("False", "Suspended") if self.suspended else ("True", "AsAsked")

    def wrong(self):
        """Everything that is not as it must be; empty when all is well. Plays the kubelet on the way."""
        for name in names_of(self.cluster, self.namespace, "Deployment"):
            self.cluster.run_pods_there_are(self.namespace, name)
        found = []
        ready = self.cluster.condition("MarketFeed", self.namespace, "sim") or ("", "", "")
        if ready[:2] != self.expected():
            found.append(f"Ready is {ready}, not {self.expected()}")
        if not (self.has_table and self.is_right):
            return found  # what runs goes on as it was
        wanted = 0 if self.suspended else self.replicas
        objects = {
            kind: self.cluster.list(kind, self.namespace, f"{FEED}=sim,{MANAGED_BY}=k2-operator") for kind in KINDS
        }
        if {kind: len(each) for kind, each in objects.items()} != dict.fromkeys(KINDS, 1):
            return [*found, f"there are { ({kind: len(each) for kind, each in objects.items()}) }"]
        if (replicas := objects["Deployment"][0]["spec"]["replicas"]) != wanted:
            found.append(f"{replicas} pods are asked for, not {wanted}")
        if (
            set(objects["ConfigMap"][0]["data"]) != {"config.json"}
            or objects["ConfigMap"][0]["data"]["config.json"] == "{}"
        ):
            found.append("the configuration is not the feed's")
        if self.has_kafka and (there := partition_counts(self._kafka(), [TOPIC])) != {TOPIC: PARTITIONS}:
            found.append(f"of the topic there is {there}")
        # Fresh and Degraded are measured, and said again with the next reading.
        edited = [each["type"] for each in self._conditions() if each["reason"] == "ByHand"]
        return found + [f"{each} is as it was edited" for each in edited if each not in ("Fresh", "Degraded")]

    def _conditions(self):
        return (self.cluster.get("MarketFeed", "sim", self.namespace).get("status") or {}).get("conditions", ())


ACTIONS = [
    Hands.suspends_or_resumes,
    Hands.makes_a_mistake_or_mends_it,
    Hands.scales,
    Hands.deletes_the_table_or_makes_it,
    Hands.deletes_an_object,
    Hands.takes_a_label_off,
    Hands.edits_an_object,
    Hands.edits_the_status,
    Hands.kills_the_operator,
    Hands.takes_kafka_away_or_brings_it_back,
    Hands.deletes_the_topic,
]


@pytest.mark.parametrize("seed", range(sized(1, 30)))
def test_whatever_was_done_the_status_is_true_when_things_are_quiet(cluster, operator, namespace, kafka, seed):
    chance = random.Random(seed)
    hands = Hands(cluster, namespace, operator, kafka, chance)
    hands.begin()
    done = []
    try:
        for _ in range(sized(4, 10)):
            # A few things at once, and then a while for things to become quiet.
            for _ in range(chance.choice([1, 1, 2, 3])):
                action = chance.choice(ACTIONS)
                done.append(action.__name__)
                action(hands)
            told = f"seed {seed}: {done}"
            until(lambda: not hands.wrong(), told, 240, why=lambda: f"{hands.wrong()} {operator.tail()}")
    finally:
        hands.ends()
