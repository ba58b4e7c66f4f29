"""`platform.yaml`: where Kafka, the registry and the catalog are, and the names of the Secrets that open them.

Helm renders it from values; `k2 up` writes the same file into the data directory. Both executors read it, and so do
the commands a person types (`k2 load`, `k2-query`), when the environment does not say otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from k2.model.calendar_entries import CalendarEntry
from k2.model.errors import UserError
from k2.model.exchange_entries import Code, ExchangeEntry, ExchangesDocument
from k2.model.table_names import TableNames
from k2.model.topics import DataType


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


KafkaRole = Literal["operator", "producer", "sink", "query"]


class KafkaSecrets(_Part):
    """Secrets with keys `username` and `password`, by what their user does. One that is left out is `secretName`."""

    operator: str | None = Field(default=None, description="Of who makes topics and reads offsets.")
    producer: str | None = Field(default=None, description="Of producers and loads.")
    sink: str | None = Field(default=None, description="Of sinks.")
    query: str | None = Field(default=None, description="Of the query service.")


class KafkaPlatform(_Part):
    """How Kafka is reached."""

    bootstrap_servers: str = Field(description="host:port,host:port.")
    security_protocol: str = Field(default="PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.")
    sasl_mechanism: str | None = Field(default=None, description="SCRAM-SHA-512, PLAIN, …")
    secret_name: str | None = Field(default=None, description="Secret with keys `username` and `password`.")
    secret_names: KafkaSecrets = Field(
        default=KafkaSecrets(), description="Secrets by role, where one user shall not do everything."
    )
    ca_secret_name: str | None = Field(default=None, description="Secret with the key `ca.crt`.")
    replication_factor: int = Field(
        default=1, ge=1, description="Copies of each partition of the topics that are made."
    )
    topics: Literal["admin", "strimzi"] = Field(
        default="admin", description="Who makes topics: `admin` (Kafka's protocol) or `strimzi` (KafkaTopic)."
    )
    strimzi_cluster: str = Field(default="k2", description="With `strimzi`: name of the Kafka object.")
    strimzi_namespace: str | None = Field(
        default=None, description="With `strimzi`: namespace of the Kafka object; default: the feed's."
    )

    def secret_of(self, role: KafkaRole) -> str | None:
        """The Secret that opens Kafka for a role: its own, or else the common one."""
        own: str | None = getattr(self.secret_names, role)
        return own or self.secret_name


class RegistryPlatform(_Part):
    """How the Schema Registry (Confluent's API) is reached."""

    url: str = Field(description="Address of the registry's Confluent API.")
    secret_name: str | None = Field(default=None, description="Secret with keys `username` and `password`.")


class CatalogPlatform(_Part):
    """The Iceberg catalog, in PyIceberg's own properties (type, uri, warehouse, s3.endpoint, …)."""

    name: str = Field(default="k2", description="Name of the catalog.")
    properties: dict[str, str] = Field(description="PyIceberg's properties: type, uri, warehouse, s3.endpoint, …")
    secret_name: str | None = Field(
        default=None, description="Secret whose keys are further properties (`s3.access-key-id`, …), never logged."
    )


class ImagesPlatform(_Part):
    """Images of the workloads."""

    workload: str = Field(
        default="k2-workloads:latest", description="Image of producers, loads, sinks and the query service."
    )
    pull_policy: str = Field(default="IfNotPresent", description="Always, IfNotPresent or Never.")


class PrometheusPlatform(_Part):
    """The Prometheus that scrapes the sinks, as KEDA asks it."""

    url: str = Field(
        pattern=r"^https?://[^/]",
        description="Address of Prometheus' API without `/api/v1`, as KEDA's operator reaches it.",
    )
    authentication: str | None = Field(
        default=None,
        description="Name of a ClusterTriggerAuthentication of yours, where Prometheus asks for more than its address.",
    )


class AutoscalingPlatform(_Part):
    """How sinks are scaled where a feed asks for it."""

    kind: Literal["hpa", "keda"] = Field(
        default="hpa",
        description="`hpa`: HorizontalPodAutoscaler on a metric of the sinks' pods; `keda`: ScaledObject, which asks Prometheus.",
    )
    metric: str = Field(
        default="k2_sink_lag_messages",
        description="With `hpa`: the pods' metric, as `custom.metrics.k8s.io` serves it.",
    )
    prometheus: PrometheusPlatform | None = Field(
        default=None, validate_default=True, description="With `keda`: the Prometheus that knows the sinks' lag."
    )

    @field_validator("prometheus")
    @classmethod
    def _is_told(cls, given: PrometheusPlatform | None, info: ValidationInfo) -> PrometheusPlatform | None:
        if given is None and info.data.get("kind") == "keda":
            raise PydanticCustomError(
                "prometheus_missing", "the address of Prometheus (url), which KEDA asks for the lag (kind: keda)"
            )
        return given


class OperatorPlatform(_Part):
    """How the operator goes about its work."""

    max_concurrent_rollouts: int = Field(
        default=5, ge=1, description="Feeds whose pods are replaced at once when images or these settings change."
    )


class TracesPlatform(_Part):
    """Where the query service and the sinks send traces."""

    endpoint: str = Field(pattern=r"^https?://", description="Collector, OTLP over HTTP: http://collector:4318.")
    ratio: float = Field(default=1.0, ge=0, le=1, description="Share of the requests and commits that are traced.")


class ApiPlatform(_Part):
    """Where a person reaches the query service."""

    url: str = Field(description="Address of the query service.")


class Platform(_Part):
    """All of `platform.yaml`."""

    kafka: KafkaPlatform
    registry: RegistryPlatform
    catalog: CatalogPlatform
    images: ImagesPlatform = ImagesPlatform()
    autoscaling: AutoscalingPlatform = AutoscalingPlatform()
    operator: OperatorPlatform = OperatorPlatform()
    api: ApiPlatform | None = None
    traces: TracesPlatform | None = Field(default=None, description="Absent: nothing is traced.")
    tables: dict[DataType, TableNames] = Field(
        default={},
        description="Tables of each data type (`namespace.name`, or a list of several, the main one first), for commands that ask "
        "no service; default: `market_data.<data type>`.",
    )
    exchanges: dict[Code, ExchangeEntry] = Field(
        default={}, description="Exchanges by code, beside those that ship with K2, and what is different of these."
    )

    calendars: dict[str, CalendarEntry] = Field(
        default={}, description="Calendars by name, beside those that ship with K2."
    )

    @property
    def exchanges_said(self) -> ExchangesDocument:
        """What is said of exchanges and calendars beside those that ship."""
        return ExchangesDocument(exchanges=self.exchanges, calendars=self.calendars)

    @classmethod
    def read(cls, path: Path) -> Platform:
        """Read the file; what is wrong in it is a `UserError` that names the field."""
        try:
            found: object = yaml.safe_load(path.read_text())
        except OSError as error:
            raise UserError(f"{path} cannot be read", found=str(error), expected="the platform's settings") from error
        except yaml.YAMLError as error:
            raise UserError(f"{path} is not YAML", found=str(error), expected="the platform's settings") from error
        return cls.checked(found, f"{path} is wrong at")

    @classmethod
    def checked(cls, found: object, wrong_at: str) -> Platform:
        """A document as the settings; what is wrong in it is a `UserError` that begins so and names the field."""
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UserError(
                f"{wrong_at} {where or 'its top'}", found=first.get("input"), expected=first["msg"]
            ) from error

    def write(self, path: Path) -> None:
        """Write the file (atomically: readers see the old or the new one)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".tmp")
        said = self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"exchanges", "calendars"})
        said |= self.exchanges_said.as_json()
        part.write_text(yaml.safe_dump(said, sort_keys=False))
        part.replace(path)
