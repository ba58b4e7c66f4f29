"""Kafka and the Schema Registry: whether they can be reached, and whether their settings keep what K2 puts there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from k2.bus.look import BarredError, Barrier, ClusterLook, RegistryLook, look_at_cluster, look_at_registry
from k2.doctor.checks import Check, DoubtfulError, Group, SkippedError, WrongError
from k2.model.settings import Settings

LOOK_SECONDS = 4.0
MESSAGE_BYTES = 1_000_000
"""What a broker has to take: a dead letter of the largest event, with its headers."""

RETENTION_HOURS = 24.0
"""Shorter than that, a sink that stands still over a night has lost ticks in the morning."""

_WAY = ("kafka-address", "kafka-reachable", "kafka-tls-trusted", "kafka-credentials")

T = TypeVar("T")


@dataclass(slots=True)
class _Once(Generic[T]):
    """A look that several checks speak of, taken once."""

    take: Callable[[], T]
    _found: list[T | BarredError] = field(default_factory=list)

    def __call__(self) -> T | BarredError:
        if not self._found:
            try:
                self._found.append(self.take())
            except BarredError as error:
                self._found.append(error)
        return self._found[0]

    def past(self, barrier: Barrier) -> T | None:
        """What was seen; None when something that lies behind this barrier kept us from it. Raises when it was this one."""
        found = self()
        if not isinstance(found, BarredError):
            return found
        if found.barrier is barrier:
            raise WrongError(str(found))
        return None


def kafka(settings: Settings) -> Group:
    """Checks of Kafka."""
    look = _Once(lambda: look_at_cluster(settings.kafka_config(), LOOK_SECONDS))
    address = str(settings.kafka_bootstrap_servers)
    protocol = settings.kafka_security_protocol

    def known() -> str:
        settings.kafka_config()
        look.past(Barrier.ADDRESS)
        return address

    def reached() -> str:
        look.past(Barrier.CONNECTION)
        return address

    def encrypted() -> str:
        if "SSL" not in protocol:
            raise SkippedError(f"{protocol} is not encrypted")
        look.past(Barrier.TLS)
        return f"{protocol}, checked against {settings.kafka_ca_file or 'the authorities of this machine'}"

    def authenticated() -> str:
        if not protocol.startswith("SASL"):
            raise SkippedError(f"{protocol} asks for no user")
        look.past(Barrier.CREDENTIALS)
        return f"{settings.kafka_username or 'no user'} by {settings.kafka_sasl_mechanism}"

    return Group(
        "Kafka",
        [
            Check(
                "kafka-address",
                known,
                remedy="Set K2_KAFKA_BOOTSTRAP_SERVERS (platform.kafka.bootstrapServers) to host:port of its brokers, by names that "
                "this machine can look up.",
            ),
            Check(
                "kafka-reachable",
                reached,
                ["kafka-address"],
                "Look whether the brokers run and listen there, whether a network policy or firewall lies between, and whether "
                f"their listener speaks {protocol} (K2_KAFKA_SECURITY_PROTOCOL).",
            ),
            Check(
                "kafka-tls-trusted",
                encrypted,
                ["kafka-address"],
                "Set K2_KAFKA_CA_FILE (platform.kafka.caSecretName) to the authority that signed the brokers' certificates, and "
                "use the names that these carry.",
            ),
            Check(
                "kafka-credentials",
                authenticated,
                ["kafka-address"],
                "Compare user, password and mechanism with what the cluster has (with Strimzi: the KafkaUser's Secret).",
            ),
            *ClusterChecks(look).checks(),
        ],
    )


@dataclass(frozen=True, slots=True)
class ClusterChecks:
    """The settings of a cluster, as one look has them.

    Args:
        look: takes the look, or gives what kept it from being taken.
    """

    look: Callable[[], ClusterLook | BarredError]

    def checks(self) -> list[Check]:
        """What is to be seen of a cluster that can be reached."""
        found = [
            (self.enough_brokers, "Add brokers, or lower these settings; until then writes or consumer groups fail."),
            (self.message_size, "Raise message.max.bytes of the brokers."),
            (
                self.cleanup_policy,
                "Set log.cleanup.policy=delete on the brokers, or cleanup.policy=delete on K2's topics.",
            ),
            (
                self.retention,
                "Set retention in the feeds' spec.topic, or raise log.retention.hours: it is the time that a sink may stand still.",
            ),
            (self.auto_create, "Set auto.create.topics.enable=false on the brokers."),
        ]
        built = [Check("kafka-cluster", self.cluster, _WAY)]
        for examine, remedy in found:
            built.append(Check(f"kafka-{examine.__name__.replace('_', '-')}", examine, ["kafka-cluster"], remedy))
        return built

    def cluster(self) -> str:
        """The cluster could be described."""
        return f"{self._seen.cluster_id}, {self._seen.brokers} brokers"

    def enough_brokers(self) -> str:
        """Whether there are as many brokers as its settings ask for."""
        brokers = self._seen.brokers
        names = ("min.insync.replicas", "offsets.topic.replication.factor")
        if many := [f"{name} is {found}" for name in names if int(found := self.setting(name)) > brokers]:
            raise WrongError(f"{' and '.join(many)}, and the cluster has {brokers} brokers")
        return f"{brokers} brokers, {names[0]} {self.setting(names[0])}"

    def message_size(self) -> str:
        """Whether a dead letter of the largest event can be kept."""
        most = int(self.setting("message.max.bytes"))
        if most < MESSAGE_BYTES:
            raise WrongError(f"message.max.bytes is {most:,}, expected at least {MESSAGE_BYTES:,}")
        return f"messages of up to {most:,} bytes"

    def retention(self) -> str:
        """Whether a sink may stand still over a night."""
        hours = _retention_hours(self.setting)
        if hours is not None and hours < RETENTION_HOURS:
            raise DoubtfulError(f"topics without a setting of their own keep messages for {hours:g} hours")
        return "for ever" if hours is None else f"messages are kept for {hours:g} hours"

    def cleanup_policy(self) -> str:
        """Whether all messages are kept, and not a key's newest alone."""
        if "compact" in (policy := self.setting("log.cleanup.policy")):
            raise WrongError(f"log.cleanup.policy is {policy}: it keeps a symbol's newest event and drops the rest")
        return f"log.cleanup.policy {policy}"

    def auto_create(self) -> str:
        """Whether a name that is misspelt is an error."""
        if self.setting("auto.create.topics.enable") == "true":
            raise DoubtfulError("auto.create.topics.enable is true: a name that is misspelt becomes a topic")
        return "topics come to be on purpose"

    def setting(self, name: str) -> str:
        """One broker's setting; skipped where it does not tell."""
        found = self._seen.settings.get(name)
        if found is None:
            raise SkippedError(f"the broker does not tell its {name}")
        return found

    @property
    def _seen(self) -> ClusterLook:
        found = self.look()
        if isinstance(found, BarredError):
            raise WrongError(str(found))
        return found


def _retention_hours(setting: Callable[[str], str]) -> float | None:
    """Of topics without a setting of their own; None: for ever."""
    for name, hours in (("log.retention.ms", 3_600_000), ("log.retention.minutes", 60), ("log.retention.hours", 1)):
        try:
            value = float(setting(name))
        except (SkippedError, ValueError):
            continue
        return None if value < 0 else value / hours
    raise SkippedError("the broker does not tell how long it keeps messages")


def registry(settings: Settings) -> Group:
    """Checks of the Schema Registry."""
    look = _Once(lambda: look_at_registry(settings.registry_config(), LOOK_SECONDS))
    url = str(settings.registry_url)

    def past(barrier: Barrier) -> Callable[[], str]:
        def check() -> str:
            look.past(barrier)
            return url

        return check

    def known() -> str:
        settings.registry_config()
        look.past(Barrier.ADDRESS)
        return url

    def answers() -> str:
        found = look.past(Barrier.ANOTHER_SERVICE)
        return "" if found is None else f"{found.subjects:,} subjects"

    def authenticated() -> str:
        look.past(Barrier.CREDENTIALS)
        return f"as {settings.registry_username}" if settings.registry_username else "asks for no user"

    def writable() -> str:
        found = look()
        if not isinstance(found, RegistryLook) or not found.mode:
            raise SkippedError("the registry does not tell its mode")
        if found.mode.upper() != "READWRITE":
            raise WrongError(f"its mode is {found.mode}: schemas cannot be registered")
        return f"mode {found.mode}, compatibility {found.compatibility or 'not told'}"

    return Group(
        "Schema Registry",
        [
            Check(
                "registry-address",
                known,
                remedy="Set K2_REGISTRY_URL (platform.registry.url) to a URL whose name this machine can look up.",
            ),
            Check(
                "registry-reachable",
                past(Barrier.CONNECTION),
                ["registry-address"],
                "Look whether it runs and listens there, and whether a network policy or firewall lies between.",
            ),
            Check(
                "registry-tls-trusted",
                past(Barrier.TLS),
                ["registry-address"],
                "Use the name that its certificate carries, and trust the authority that signed it.",
            ),
            Check(
                "registry-credentials",
                authenticated,
                ["registry-address"],
                "Set K2_REGISTRY_USERNAME and K2_REGISTRY_PASSWORD (platform.registry.secretName) to a user who may read and register.",
            ),
            Check(
                "registry-api",
                answers,
                ["registry-reachable", "registry-credentials"],
                "Give the URL of Confluent's API; with Apicurio it ends in /apis/ccompat/v7.",
            ),
            Check(
                "registry-writable",
                writable,
                ["registry-reachable", "registry-credentials", "registry-api"],
                "Set its mode to READWRITE.",
            ),
        ],
    )
