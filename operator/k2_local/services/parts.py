"""The platform's services on this machine: Kafka, the registry and the catalog, started here or existing ones."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from k2.api.access.keys import ApiKey, digest_of, read_keys, write_keys
from k2.model.errors import UserError
from k2.model.identity import API_KEYS_FOLDER, IDENTITY_FILE
from k2.model.locations import location_of
from k2.model.platform import ApiPlatform, CatalogPlatform, KafkaPlatform, Platform, RegistryPlatform
from k2_local.host.processes import private_dir
from k2_local.services.kafka import LocalKafka
from k2_local.services.registry import LocalRegistry

API_KEYS_SECRET = "k2-api-keys"  # noqa: S105 - its name
API_KEY_FILE = "api-key"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user said about the services; None everywhere starts all of them on free ports.

    `kafka` is a list of addresses, `registry` and `catalog` are URIs, `warehouse` a location of the catalog's data.
    """

    kafka: str | None = None
    registry: str | None = None
    catalog: str | None = None
    warehouse: str | None = None
    kafka_port: int | None = None
    registry_port: int | None = None
    kafka_heap: str = "512m"


@dataclass(frozen=True, slots=True)
class PartStatus:
    """Kafka, the registry or the catalog: ours (`pid`, `log`) or an existing one."""

    name: str
    address: str
    pid: int | None
    log: str | None


@dataclass(slots=True)
class Parts:
    """The services of one data directory. `start` in the thread that lives as long as they shall."""

    data_dir: Path
    wishes: Wishes
    tell: Callable[[str], None]
    _kafka: LocalKafka | None = None
    _registry: LocalRegistry | None = None
    _restarts: dict[str, int] = field(default_factory=dict[str, int])

    def start(self) -> None:
        """Start what is not existing already; returns when it serves.

        Raises:
            UserError, WorldError: see `LocalKafka.start`; whatever was started is stopped again.
        """
        logs, run_dir, wishes = self.data_dir / "logs", self.data_dir / "run", self.wishes
        try:
            if wishes.registry is None:
                self._registry = LocalRegistry(
                    self.data_dir / "registry", logs=logs, run_dir=run_dir, port=wishes.registry_port
                )
                self._registry.launch()
            if wishes.kafka is None:
                self.tell("Starting Kafka and the schema registry" if self._registry else "Starting Kafka")
                home = self.data_dir / "kafka"
                self._kafka = LocalKafka(
                    home, logs=logs, run_dir=run_dir, port=wishes.kafka_port, heap=wishes.kafka_heap
                )
                self._kafka.launch()
                self._kafka.wait()
            if self._registry is not None:
                self._registry.wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop what was started here, Kafka last."""
        for part in (self._registry, self._kafka):
            if part is not None:
                part.stop()

    @property
    def serving(self) -> bool:
        """Whether all that was started here answers, as far as `revive` has seen."""
        return all(part.serves for part in (self._registry, self._kafka) if part is not None)

    def revive(self) -> None:
        """Start a service again that has ended by itself, without waiting for it: whoever calls has a signal to look out for.

        Raises:
            UserError: it has ended for the fourth time, or cannot be started.
            WorldError: it does not come up.
        """
        for name, part in (("Kafka", self._kafka), ("the schema registry", self._registry)):
            if part is None:
                continue
            code = part.poll()
            if code is None:
                part.look()
                continue
            times = self._restarts.get(name, 0) + 1
            self._restarts[name] = times
            self.tell(f"{name} ended with exit code {code}, starting it again ({times}); its log: {part.log}")
            part.stop()
            if times > 3:
                raise UserError(f"{name} has ended {times} times", remedy=f"Look into its log: {part.log}")
            part.launch()

    def platform(self, api_url: str | None) -> Platform:
        """The platform's settings, as Helm would render them. Call after `start`."""
        wishes = self.wishes
        kafka = self._kafka.bootstrap_servers if self._kafka else wishes.kafka
        registry = self._registry.url if self._registry else wishes.registry
        return Platform(
            kafka=KafkaPlatform(bootstrap_servers=str(kafka)),
            registry=RegistryPlatform(url=str(registry)),
            catalog=CatalogPlatform(properties=self._catalog()),
            api=ApiPlatform(url=api_url) if api_url else None,
        )

    def statuses(self) -> tuple[PartStatus, ...]:
        """Address, process and log of each service."""
        kafka, registry = self._kafka, self._registry
        return (
            PartStatus("kafka", kafka.bootstrap_servers, kafka.pid, str(kafka.log))
            if kafka
            else PartStatus("kafka", str(self.wishes.kafka), None, None),
            PartStatus("registry", registry.url, registry.pid, str(registry.log))
            if registry
            else PartStatus("registry", str(self.wishes.registry), None, None),
            PartStatus("catalog", self._catalog()["uri"], None, None),
        )

    def _catalog(self) -> dict[str, str]:
        wishes = self.wishes
        warehouse = wishes.warehouse or location_of(self.data_dir / "warehouse")
        if wishes.catalog is None:
            return {"type": "sql", "uri": f"sqlite:///{self.data_dir / 'catalog.db'}", "warehouse": warehouse}
        if wishes.catalog.startswith(("http://", "https://")):
            # A REST catalog knows its own warehouse unless the user names one.
            chosen = {"warehouse": wishes.warehouse} if wishes.warehouse else {}
            return {"type": "rest", "uri": wishes.catalog, **chosen}
        if wishes.catalog.startswith(("postgresql", "sqlite:")):
            return {"type": "sql", "uri": wishes.catalog, "warehouse": warehouse}
        raise UserError(
            "Not a catalog's address",
            found=wishes.catalog,
            expected="http(s)://… of a REST catalog, postgresql+psycopg2://… or sqlite:///… of an SQL catalog",
        )


def ensure_api_key(data_dir: Path) -> Path:
    """The file that the query service's keys are read from; at the first call a key is made and kept beside it (0600).

    Keys that a user made before stay, and those that a user took away later stay away. Beside the keys lies what the service
    proves to the commands of this directory that it is theirs by (`k2.model.identity`).
    """
    key_file = data_dir / API_KEY_FILE
    is_new = not key_file.exists()
    if is_new:
        _write_private(key_file, secrets.token_urlsafe(24) + "\n")
    folder = private_dir(data_dir / API_KEYS_FOLDER, "the API keys")
    folder.chmod(0o700)
    keys = folder / "keys.json"
    if is_new or not keys.exists():
        local = ApiKey(name="local", sha256=digest_of(key_file.read_text().strip()))
        write_keys(keys, [*read_keys(keys), local])
    if not (folder / IDENTITY_FILE).exists():
        _write_private(folder / IDENTITY_FILE, secrets.token_hex(32) + "\n")
    return keys


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
