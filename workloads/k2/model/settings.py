"""Settings from the environment (prefix `K2_`), with `platform.yaml` of the data directory as the fallback.

A pod gets everything as environment. On one machine `k2 up` leaves `platform.yaml` in the data directory, so that the
commands a person types need no flags.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from k2.model.errors import UserError
from k2.model.exchange_entries import ExchangesDocument
from k2.model.identity import DirectoryKey
from k2.model.mounted import mounted_login, mounted_secret
from k2.model.table_names import TableNames
from k2.model.topics import DataType


class Settings(BaseSettings):
    """Everything a workload or a command takes from the environment.

    A list of all variables with their meaning is in docs/configuration.md, generated from the fields here.
    """

    model_config = SettingsConfigDict(env_prefix="K2_", frozen=True, extra="ignore")

    data_dir: Path = Field(default=Path(".k2"), description="Where `k2 up` keeps everything, and every command looks.")
    config_file: Path | None = Field(default=None, description="JSON configuration of a workload.")
    platform_file: Path | None = Field(
        default=None, description="platform.yaml; default: the one in the data directory."
    )

    kafka_bootstrap_servers: str | None = Field(default=None, description="host:port,host:port of Kafka.")
    kafka_security_protocol: str = Field(default="PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.")
    kafka_sasl_mechanism: str | None = Field(default=None, description="SCRAM-SHA-512, PLAIN, …")
    kafka_username: str | None = Field(default=None, description="SASL user name.")
    kafka_password: SecretStr | None = Field(default=None, description="SASL password.")
    kafka_secret_dir: Path | None = Field(
        default=None,
        description="Instead of the two: a directory with files `username` and `password`. They may change while a workload runs.",
    )
    kafka_ca_file: Path | None = Field(default=None, description="CA certificate of Kafka, PEM.")

    registry_url: str | None = Field(default=None, description="Schema Registry, Confluent's API.")
    registry_username: str | None = Field(default=None, description="Basic authentication of the registry.")
    registry_password: SecretStr | None = Field(default=None, description="Basic authentication of the registry.")
    registry_secret_dir: Path | None = Field(
        default=None,
        description="Instead of the two: a directory with files `username` and `password`. They may change while a workload runs.",
    )

    catalog_name: str = Field(default="k2", description="Name of the Iceberg catalog.")
    catalog_properties: dict[str, str] = Field(
        default_factory=dict, description="PyIceberg's properties of the catalog, as JSON (type, uri, warehouse, …)."
    )
    catalog_secret_dir: Path | None = Field(
        default=None,
        description="A directory whose files are further catalog properties (name: property, content: value). They may change.",
    )

    tables: dict[DataType, TableNames] = Field(
        default_factory=dict,
        description="Tables that a command which asks no service answers from, as JSON: data type → `namespace.name`, or a list "
        "of several, the main one first. Default: `market_data.<data type>`.",
    )

    exchanges: ExchangesDocument = Field(
        default_factory=ExchangesDocument,
        description='Exchanges beside those that ship, as JSON: `{"exchanges": {CODE: {…}}, "calendars": {NAME: {…}}}` (docs/exchanges.md). Default: those of '
        "`platform.yaml`.",
    )
    exchanges_file: Path | None = Field(
        default=None,
        description="YAML file of exchanges, which comes before both; default: `exchanges.yaml` in the data directory, where it is.",
    )

    api_url: str | None = Field(default=None, description="The query service, for k2-query and the Python client.")
    api_key: SecretStr | None = Field(default=None, description="API key for the query service.")

    page_token_key: SecretStr | None = Field(
        default=None,
        description=(
            "Signs the query service's page tokens; default: the file page-token-key beside the API keys, else one that is "
            "made in the data directory. Replicas must share it."
        ),
    )

    http_host: str = Field(
        default="127.0.0.1", description="Address that a workload's HTTP server listens on; 0.0.0.0 in a pod."
    )
    http_port: int = Field(default=8000, ge=0, le=65535, description="Port of the query service.")
    metrics_port: int = Field(
        default=0, ge=0, le=65535, description="Port of /metrics, /health and /ready of a workload; 0: any free one."
    )
    delivery_seconds: float = Field(
        default=120.0,
        ge=1,
        description="An event that Kafka has not taken from a feed for so long is given up, counted and told.",
    )
    source_dir: Path | None = Field(
        default=None,
        description="Directory that a csv source's `file:` URIs are relative to; default: the working directory.",
    )
    traces_endpoint: str | None = Field(
        default=None,
        description="Collector that traces go to, OTLP over HTTP: http://collector:4318. Unset: nothing is traced. Needs the extra `otel`, "
        "which the images have.",
    )
    traces_ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of the requests and commits that are traced; a request whose caller traces it is traced too.",
    )
    log_format: str = Field(default="auto", description="json, console, or auto (console on a terminal).")
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING, ERROR.")
    pod_name: str | None = Field(default=None, description="Name of this pod or process, for logs and lock owners.")

    def resolved(self) -> Settings:
        """These settings, with addresses that are not in the environment taken from `platform.yaml` where it exists."""
        path = self.platform_file or self.data_dir / "platform.yaml"
        if not path.exists():
            return self
        # For whom there is such a file alone: a command's start is a large part of what a person waits for.
        from k2.model.platform import Platform

        platform = Platform.read(path)
        found: dict[str, object] = {}
        if self.kafka_bootstrap_servers is None:
            found["kafka_bootstrap_servers"] = platform.kafka.bootstrap_servers
            found["kafka_security_protocol"] = platform.kafka.security_protocol
            found["kafka_sasl_mechanism"] = platform.kafka.sasl_mechanism
        if self.registry_url is None:
            found["registry_url"] = platform.registry.url
        if not self.catalog_properties:
            found["catalog_name"] = platform.catalog.name
            found["catalog_properties"] = dict(platform.catalog.properties)
        if not self.tables:
            found["tables"] = dict(platform.tables)
        if not self.exchanges.as_json():
            found["exchanges"] = platform.exchanges_said
        if self.api_url is None and platform.api is not None:
            found["api_url"] = platform.api.url
        if self.api_key is None and (self.data_dir / "api-key").exists():
            found["api_key"] = DirectoryKey((self.data_dir / "api-key").read_text().strip(), self.data_dir)
        return self.model_copy(update=found)

    def exchanges_said(self) -> ExchangesDocument:
        """What is said of exchanges beside those that ship; a file that is wrong is a `UserError`."""
        path = self.exchanges_file or self.data_dir / "exchanges.yaml"
        if self.exchanges_file is None and not path.exists():
            return self.exchanges
        return ExchangesDocument.read(path).over(self.exchanges)

    def kafka_config(self) -> dict[str, str]:
        """Connection settings of librdkafka, with the credentials of now: whoever holds a client for long asks again.

        Raises:
            UserError: no address is known, or the credentials are given twice or cannot be read.
        """
        if not self.kafka_bootstrap_servers:
            raise UserError(
                "Kafka's address is not known", expected="K2_KAFKA_BOOTSTRAP_SERVERS, or platform.yaml", remedy=_START
            )
        config = {"bootstrap.servers": self.kafka_bootstrap_servers, "security.protocol": self.kafka_security_protocol}
        if self.kafka_sasl_mechanism:
            config["sasl.mechanism"] = self.kafka_sasl_mechanism
        user, password = _login("K2_KAFKA", self.kafka_username, self.kafka_password, self.kafka_secret_dir)
        if user:
            config["sasl.username"] = user
        if password:
            config["sasl.password"] = password
        if self.kafka_ca_file:
            config["ssl.ca.location"] = str(self.kafka_ca_file)
        return config

    def registry_config(self) -> dict[str, str]:
        """The Schema Registry client's settings, with the credentials of now.

        Raises:
            UserError: no address is known, or the credentials are given twice or cannot be read.
        """
        if not self.registry_url:
            raise UserError(
                "The Schema Registry's address is not known",
                expected="K2_REGISTRY_URL, or platform.yaml",
                remedy=_START,
            )
        config = {"url": self.registry_url}
        user, password = _login("K2_REGISTRY", self.registry_username, self.registry_password, self.registry_secret_dir)
        if user and password:
            config["basic.auth.user.info"] = f"{user}:{password}"
        return config

    def catalog_config(self) -> dict[str, str]:
        """PyIceberg's properties of the catalog, with the secret ones of now.

        Raises:
            UserError: no catalog is known, or its Secret cannot be read.
        """
        properties = dict(self.catalog_properties)
        if self.catalog_secret_dir is not None:
            properties |= mounted_secret(self.catalog_secret_dir, "K2_CATALOG_SECRET_DIR")
        if not properties:
            raise UserError(
                "The Iceberg catalog is not known", expected="K2_CATALOG_PROPERTIES, or platform.yaml", remedy=_START
            )
        return properties

    def store_config(self) -> dict[str, str]:
        """Those of the catalog's properties that say where its S3 store is and open it; none where no catalog is known."""
        if not self.catalog_properties and self.catalog_secret_dir is None:
            return {}
        return {name: value for name, value in self.catalog_config().items() if name.startswith("s3.")}


_START = "Start a platform with `k2 up`, or run the command in the directory of one (K2_DATA_DIR)"


def _login(
    prefix: str, user: str | None, password: SecretStr | None, folder: Path | None
) -> tuple[str | None, str | None]:
    """User and password from the environment or from a mounted Secret: which of two would count nobody could tell later."""
    if folder is None:
        return user, password.get_secret_value() if password else None
    if user is not None or password is not None:
        given = " and ".join(name for name, value in (("USERNAME", user), ("PASSWORD", password)) if value is not None)
        raise UserError(
            f"{prefix}'s credentials are given twice",
            found=f"{prefix}_SECRET_DIR beside {prefix}_{given}",
            expected="the directory or the two variables",
            remedy=f"Take away {prefix}_USERNAME and {prefix}_PASSWORD: files are read again when they change",
        )
    return mounted_login(folder, f"{prefix}_SECRET_DIR")


def settings() -> Settings:
    """The settings of this process, resolved. Read anew at each call: nothing is cached behind a person's back."""
    return Settings().resolved()


def process_name() -> str:
    """A name for this process in logs and metadata."""
    return os.environ.get("K2_POD_NAME") or f"pid-{os.getpid()}"
