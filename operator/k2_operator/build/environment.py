"""How a workload reaches Kafka, the registry and the catalog: `K2_*` variables and volumes from the platform's settings.

Secrets go by name only; what is in them is never seen here. They are mounted, all of them: a file changes in a running pod when
its Secret does, a variable never.
"""

from __future__ import annotations

import json

from k2.model.platform import KafkaRole, Platform
from k2_operator.build.types import EnvVar, Mount

KAFKA_SECRET_DIR = "/etc/k2/kafka"  # noqa: S105 - a path
KAFKA_CA_DIR = "/etc/k2/kafka-ca"
REGISTRY_SECRET_DIR = "/etc/k2/registry"  # noqa: S105
CATALOG_SECRET_DIR = "/etc/k2/catalog"  # noqa: S105


def literal(name: str, value: str) -> EnvVar:
    """A variable with a value."""
    return {"name": name, "value": value}


def connections(platform: Platform, role: KafkaRole) -> list[EnvVar]:
    """Variables for Kafka (as the user of that role), the registry and the catalog."""
    kafka, registry = platform.kafka, platform.registry
    env = [
        literal("K2_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers),
        literal("K2_KAFKA_SECURITY_PROTOCOL", kafka.security_protocol),
    ]
    if kafka.sasl_mechanism is not None:
        env.append(literal("K2_KAFKA_SASL_MECHANISM", kafka.sasl_mechanism))
    if kafka.secret_of(role) is not None:
        env.append(literal("K2_KAFKA_SECRET_DIR", KAFKA_SECRET_DIR))
    if kafka.ca_secret_name is not None:
        env.append(literal("K2_KAFKA_CA_FILE", f"{KAFKA_CA_DIR}/ca.crt"))
    env.append(literal("K2_REGISTRY_URL", registry.url))
    if registry.secret_name is not None:
        env.append(literal("K2_REGISTRY_SECRET_DIR", REGISTRY_SECRET_DIR))
    return env + catalog(platform) + exchanges(platform) + (traces(platform) if role in ("query", "sink") else [])


def exchanges(platform: Platform) -> list[EnvVar]:
    """The variable with the platform's own exchanges, where it has any. In the template: a pod is made anew when they change."""
    said = platform.exchanges_said.as_json()
    return [literal("K2_EXCHANGES", json.dumps(said, sort_keys=True, ensure_ascii=False))] if said else []


def traces(platform: Platform) -> list[EnvVar]:
    """Variables of what is traced, where the platform says where to."""
    if platform.traces is None:
        return []
    return [
        literal("K2_TRACES_ENDPOINT", platform.traces.endpoint),
        literal("K2_TRACES_RATIO", f"{platform.traces.ratio:g}"),
    ]


def catalog(platform: Platform) -> list[EnvVar]:
    """Variables for the catalog alone."""
    env = [
        literal("K2_CATALOG_NAME", platform.catalog.name),
        literal("K2_CATALOG_PROPERTIES", json.dumps(platform.catalog.properties, sort_keys=True)),
    ]
    if platform.catalog.secret_name is not None:
        env.append(literal("K2_CATALOG_SECRET_DIR", CATALOG_SECRET_DIR))
    return env


def volumes(platform: Platform, role: KafkaRole) -> list[Mount]:
    """Secret volumes that the variables of `connections` refer to, each with its mount path."""
    kafka = platform.kafka
    return [
        *_mounted("kafka", kafka.secret_of(role), KAFKA_SECRET_DIR),
        *_mounted("kafka-ca", kafka.ca_secret_name, KAFKA_CA_DIR),
        *_mounted("registry", platform.registry.secret_name, REGISTRY_SECRET_DIR),
        *catalog_volumes(platform),
    ]


def catalog_volumes(platform: Platform) -> list[Mount]:
    """The Secret volumes of the catalog alone."""
    return _mounted("catalog", platform.catalog.secret_name, CATALOG_SECRET_DIR)


def _mounted(name: str, secret: str | None, path: str) -> list[Mount]:
    return [] if secret is None else [({"name": name, "secret": {"secretName": secret}}, path)]
