"""`k2 up`: resources → plans → services → topics, subjects, tables → workloads, supervised until a signal ends all of it.

Everything is checked that can be checked before the first process starts. Stopping goes the other way round: senders,
sinks (which commit what they hold), the query service, the registry, Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from k2.bus.admin import ensure_topics
from k2.lake.catalog import open_named
from k2.lake.tables import ensure_tables
from k2.model.errors import UserError
from k2.model.exchange_entries import ExchangesDocument
from k2.model.exchanges import use
from k2.model.feed_rules import FeedRules, write_rules
from k2.model.platform import CatalogPlatform, KafkaPlatform, Platform, RegistryPlatform
from k2.model.settings import Settings
from k2.model.table_names import TableNames
from k2.model.topics import DataType
from k2.model.workload import QueryConfig
from k2_local import state
from k2_local.host import ports, processes
from k2_local.host.signals import Stopping
from k2_local.pods.executor import THIS_K2, Executor
from k2_local.services.parts import API_KEYS_SECRET, Parts, Wishes, ensure_api_key
from k2_operator.build import cronjob, deployment, feed
from k2_operator.build.types import Manifest
from k2_operator.plan.planning import plan
from k2_operator.plan.plans import PlatformPlan, QueryPlan
from k2_operator.reconcile.topics import ensure_planned_subjects, topic_specs
from k2_operator.spec.resources import Resources
from k2_operator.spec.validate import ResourceError

QUERY = "k2-query"
STEP_SECONDS = 0.25
NOWHERE = Platform(
    kafka=KafkaPlatform(bootstrap_servers="127.0.0.1:0"),
    registry=RegistryPlatform(url="http://127.0.0.1:0"),
    catalog=CatalogPlatform(properties={}),
)


class InvalidResourcesError(UserError):
    """Some resources cannot be used; `problems` says which and why, one each."""

    def __init__(self, problems: Sequence[ResourceError]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        count = len(self.problems)
        return f"{count} mistake{'s' if count > 1 else ''} in the resources, nothing was started:\n{self.what}"


@dataclass(slots=True)
class Up:
    """One run of the platform in one data directory.

    Args:
        data_dir: absolute path; everything is kept in it.
        documents: the resources.
        wishes: about the services.
        api_port: port of the query service.
        tell: gets progress, for a person.
        on_ready: called once, when every workload is ready for the first time.
        program: see `Executor`.
    """

    data_dir: Path
    documents: Sequence[dict[str, Any]]
    wishes: Wishes
    api_port: int
    tell: Callable[[str], None]
    on_ready: Callable[[state.State], None]
    program: tuple[str, ...] = THIS_K2
    _exchanges: ExchangesDocument = field(default_factory=ExchangesDocument, init=False)

    def run(self) -> None:
        """Run until SIGINT, SIGTERM or SIGHUP; call in the main thread.

        Raises:
            UserError: resources, ports, folders, services that cannot be used; all is stopped again.
            WorldError: a service that does not come up.
        """
        self.check()
        with state.lock(self.data_dir):
            # Whoever's folder this is in, it is no source code.
            (self.data_dir / ".gitignore").write_text("*\n")
            self._end_leftovers()
            ports.choose(self.api_port, None, what="the query service", option="--port")
            self._run()

    def check(self) -> PlatformPlan:
        """Plan without starting anything, so that a typo costs no time.

        Raises:
            InvalidResourcesError: with every mistake.
        """
        # platform.yaml is what the last run wrote: this one writes it anew.
        self._exchanges = Settings(data_dir=self.data_dir).exchanges_said()
        use(self._exchanges)
        planned = plan(self.documents, NOWHERE)
        if planned.problems:
            raise InvalidResourcesError(planned.problems)
        return planned

    def _run(self) -> None:
        parts = Parts(self.data_dir, self.wishes, self.tell)
        executor = Executor(self.data_dir, published={(QUERY, "http"): self.api_port}, program=self.program)
        with Stopping() as stopping:
            try:
                # While it starts a signal interrupts whatever it is at, a download too; from then on it ends the loop.
                with stopping.interrupting():
                    platform = self._start(parts, executor)
                self._supervise(parts, executor, platform, stopping)
            finally:
                self.tell("Stopping: senders, sinks, queries, services")
                executor.stop()
                parts.stop()
                (self.data_dir / state.FILE).unlink(missing_ok=True)

    def _start(self, parts: Parts, executor: Executor) -> Platform:
        parts.start()
        platform = parts.platform(f"http://{ports.LOOPBACK}:{self.api_port}")
        platform = platform.model_copy(
            update={"exchanges": self._exchanges.exchanges, "calendars": self._exchanges.calendars}
        )
        planned = plan(self.documents, platform)
        write_rules(self.data_dir, rules_of(planned))
        # Commands that ask no service answer from the same tables as the service does.
        known = platform.model_copy(update={"tables": tables_of(planned)})
        known.write(self.data_dir / "platform.yaml")
        self.tell("Making what is missing of topics, tables and schemas")
        self._ensure(planned, platform)
        executor.apply(self._build(planned, platform))
        self.tell(f"Starting {len(executor.pods)} workloads: sinks, loads, the query service")
        return platform

    def _supervise(self, parts: Parts, executor: Executor, platform: Platform, stopping: Stopping) -> None:
        supervisor = processes.own_record("supervisor", self.data_dir / "logs" / "up.log")
        started = datetime.now(UTC).isoformat(timespec="seconds")
        known, announced = None, False
        while not stopping.wait(STEP_SECONDS):
            executor.step(lambda: stopping.asked)
            parts.revive()
            now = state.State(
                supervisor=supervisor,
                started_at=started,
                ready=executor.settled and parts.serving,
                api_url=platform.api.url if platform.api else "",
                parts=parts.statuses(),
                pods=tuple(executor.statuses()),
            )
            if now != known:
                now.write(self.data_dir)
                self._tell_of_crashes(known, now)
                self._tell_of_warnings(known, now)
                known = now
            if now.ready and not announced:
                announced = True
                self.on_ready(now)

    def _tell_of_crashes(self, before: state.State | None, now: state.State) -> None:
        restarts = {pod.name: pod.restarts for pod in before.pods} if before else {}
        for pod in now.pods:
            if pod.restarts > restarts.get(pod.name, 0):
                self.tell(
                    f"{pod.name} ended ({pod.message}); starting it again, time {pod.restarts}; its log: {pod.log}"
                )

    def _tell_of_warnings(self, before: state.State | None, now: state.State) -> None:
        """Once when a warning begins and once when it ends: its figures change all the while."""
        warned = {pod.name for pod in before.pods if pod.warning} if before else set[str]()
        for pod in now.pods:
            if pod.warning and pod.name not in warned:
                self.tell(f"{pod.name}: warning: {pod.warning}")
            elif pod.name in warned and not pod.warning and pod.ready:
                self.tell(f"{pod.name}: nothing to warn of any more")

    def _end_leftovers(self) -> None:
        """A supervisor that was killed may have left children behind where the kernel does not end them."""
        ended = processes.end_recorded(processes.read_records(self.data_dir / "run"), grace=20)
        if ended:
            self.tell(f"Ended what an earlier run had left: {', '.join(ended)}")
        for record in (self.data_dir / "run").glob("*.json"):
            record.unlink()

    def _ensure(self, planned: PlatformPlan, platform: Platform) -> None:
        """Topics, subjects and tables, by the functions that the operator uses too."""
        connection = _settings(platform)
        topics = [topic for each in planned.feeds for topic in each.topics]
        done = ensure_topics(connection.kafka_config(), [spec for topic in topics for spec in topic_specs(topic)])
        catalog = open_named(platform.catalog.name, platform.catalog.properties)
        try:
            done += ensure_tables(catalog, [each.table for each in planned.tables])
        finally:
            catalog.close()
        # After the tables: a field is told of when it has a column.
        ensure_planned_subjects(connection.registry_config(), topics)
        for sentence in done:
            self.tell(sentence)

    def _build(self, planned: PlatformPlan, platform: Platform) -> list[Manifest]:
        built: list[Manifest] = [manifest for each in planned.feeds for manifest in feed.objects(each, platform)]
        built += [manifest for each in planned.tables for manifest in cronjob.upkeep(each, platform)]
        return built + deployment.query(query_plan(planned, ensure_api_key(self.data_dir)), platform)


def rules_of(planned: PlatformPlan) -> dict[str, FeedRules]:
    """Topic → its feed's rules, for loads from this data directory; of feeds without a sink there are none to follow."""
    return {sink.config.topic: sink.config.rules for feed in planned.feeds for sink in feed.sinks}


def tables_of(planned: PlatformPlan) -> dict[DataType, TableNames]:
    """The planned tables of each data type: all of them, the one that is declared first is the main one."""
    found: dict[DataType, TableNames] = {}
    for data_type in DataType:
        names = [each.table.identifier for each in planned.tables if each.table.data_type is data_type]
        if names:
            found[data_type] = tuple(names) if len(names) > 1 else names[0]
    return found


def query_plan(planned: PlatformPlan, keys_file: Path) -> QueryPlan:
    """The query service over the planned tables."""
    known = {data_type.value: names for data_type, names in tables_of(planned).items()}
    config = QueryConfig.model_validate({**known, "api_keys_file": keys_file})
    return QueryPlan("default", QUERY, config, 1, API_KEYS_SECRET, Resources())


def _settings(platform: Platform) -> Settings:
    return Settings(
        kafka_bootstrap_servers=platform.kafka.bootstrap_servers,
        kafka_security_protocol=platform.kafka.security_protocol,
        registry_url=platform.registry.url,
    )
