"""`k2 demo`: the platform at work in about a minute, by the very commands that a person would type.

It runs in `.k2-demo` of the working directory, beside and never in the `.k2` of a real run. What it loaded stays there until
`k2 demo-reset`; a second run shows that a finished load adds nothing.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from k2.bus.admin import end_offsets
from k2.lake.catalog import load_table, open_named
from k2.lake.offsets import recorded_offsets
from k2.model.errors import UserError, WorldError
from k2.model.platform import Platform
from k2_local import background, manifests, show, state
from k2_local.host import ports, processes
from k2_local.services.parts import API_KEY_FILE
from k2_local.up import NOWHERE
from k2_operator.plan.planning import plan
from k2_operator.plan.plans import FeedPlan

FOLDER = ".k2-demo"
SYMBOL, DAY = "ACME", "2026-03-02"
LOADED_WITHIN = 240.0
GROUPS = {
    # What belongs together: tables without their topics' offsets, or a finished Job without its topic, would be refused.
    "data": ("kafka", "registry", "catalog.db", "warehouse", "jobs", "pods"),
    "logs": ("logs",),
    "key": ("api-key", "secrets"),
}
"""What `demo-reset --keep` may name."""


def run(port: int | None) -> int:
    """Start, load, query, check, stop. Returns the exit code: 0 when every step did what it should."""
    data_dir = Path.cwd() / FOLDER
    if data_dir.is_dir() and (found := state.read(data_dir)) is not None and found.alive:
        raise UserError(
            "A demo runs already", found=f"process {found.supervisor.pid}", remedy=f"K2_DATA_DIR={FOLDER} k2 down"
        )
    chosen = ports.choose(port, None, what="the query service", option="--port")
    demo = _Demo(data_dir)
    started = time.monotonic()
    try:
        demo.say("1. Start Kafka, a schema registry, the sinks and the query service; load a made-up market")
        demo.k2("up", "--detach", "--port", str(chosen))
        demo.say("2. Wait until every event is in the tables, exactly once")
        demo.wait_until_loaded()
        demo.say("3. Ask the market")
        _ask(demo, chosen)
        demo.say("4. Prove that nothing is missing and nothing doubled")
        for table in ("market_data.trades", "market_data.quotes"):
            demo.k2("audit", table)
    finally:
        demo.say("5. Stop everything")
        background.stop(data_dir, demo.tell)
    demo.say(
        f"Done in {time.monotonic() - started:.0f} s. What it loaded is in {FOLDER} ({show.size(data_dir) / 1e6:.0f} MB): "
        "`make demo-reset` deletes it. Start a platform of your own with `k2 up`."
    )
    return 0


def leftovers(keep: Sequence[str] = ()) -> list[tuple[Path, int]]:
    """What a demo has left in the working directory, with its size in bytes, without the groups to keep.

    Raises:
        UserError: the demo runs, or there is no such group.
    """
    unknown = [name for name in keep if name not in GROUPS]
    if unknown:
        raise UserError("Not a part of the demo", found=unknown[0], expected=f"one of {', '.join(GROUPS)}")
    folder = Path.cwd() / FOLDER
    if not folder.is_dir():
        return []
    found = state.read(folder)
    if found is not None and found.alive:
        raise UserError(
            "The demo runs", found=f"process {found.supervisor.pid}", remedy=f"K2_DATA_DIR={FOLDER} k2 down"
        )
    kept = {entry for name in keep for entry in GROUPS[name]}
    paths = [each for each in sorted(folder.iterdir()) if each.name not in kept]
    if not kept & {each.name for each in folder.iterdir()}:
        paths = [folder]
    return [(path, show.size(path) if path.is_dir() else path.stat().st_size) for path in paths]


def delete(paths: Sequence[Path]) -> None:
    """Delete what `leftovers` has found."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _ask(demo: _Demo, port: int) -> None:
    demo.k2_query("symbols")
    demo.k2_query("summary", SYMBOL, DAY)
    demo.k2_query("trades", SYMBOL, "--limit", "5")
    key = (demo.data_dir / API_KEY_FILE).read_text().strip()
    url = f"http://{ports.LOOPBACK}:{port}/v1/trades?symbol={SYMBOL}&limit=2"
    demo.show_request(url, key)


class _Demo:
    """Runs commands as a person would, and shows them."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("K2_")}
        for name in ("K2_CACHE_DIR",):  # where software is kept is the machine's business, not the platform's
            if name in os.environ:
                self._env[name] = os.environ[name]
        self._env["K2_DATA_DIR"] = str(data_dir)

    def say(self, text: str) -> None:
        """A headline."""
        print(f"\n{text}", flush=True)  # noqa: T201 - the demo speaks to a person

    def tell(self, text: str) -> None:
        """Progress."""
        print(text, file=sys.stderr, flush=True)  # noqa: T201

    def k2(self, *arguments: str) -> None:
        """Run `k2 …`."""
        self._run(["k2", *arguments], [sys.executable, "-m", "k2", *arguments])

    def k2_query(self, *arguments: str) -> None:
        """Run `k2-query …`."""
        self._run(["k2-query", *arguments], [sys.executable, "-m", "k2", "query", *arguments], answers=True)

    def show_request(self, url: str, key: str) -> None:
        """Ask the REST API, as curl would."""
        import urllib.request

        print(f"\n$ curl -H 'X-API-Key: …' '{url}'", flush=True)  # noqa: T201
        request = urllib.request.Request(url, headers={"X-API-Key": key})  # noqa: S310 - our own http address
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            print(answer.read().decode()[:1500], flush=True)  # noqa: T201

    def wait_until_loaded(self) -> None:
        """Until the Job has sent everything, and every table has passed the topics' ends."""
        platform = Platform.read(self.data_dir / "platform.yaml")
        feeds = [feed for feed in plan(manifests.read(manifests.sample_paths()), NOWHERE).feeds if feed.producer]
        end, told = time.monotonic() + LOADED_WITHIN, ""
        while (missing := self._missing(platform, feeds)) != 0:
            doing = "being sent to Kafka" if missing is None else f"sent; {missing:,} events are not in the tables yet"
            if doing != told:
                print(f"   the market is {doing}", flush=True)  # noqa: T201
                told = doing
            if time.monotonic() > end:
                what = "the load has not ended" if missing is None else f"{missing:,} events are not in the tables"
                raise WorldError(f"After {LOADED_WITHIN:.0f} s {what}; the logs are in {self.data_dir / 'logs'}")
            time.sleep(0.5)
        for table, rows in self._rows(platform, feeds).items():
            print(f"   {table}: {rows:,} rows", flush=True)  # noqa: T201

    def _missing(self, platform: Platform, feeds: Sequence[FeedPlan]) -> int | None:
        """Offsets that the tables have not reached; None while a load still runs."""
        found = state.read(self.data_dir)
        if found is not None and any(pod.component == "load" and pod.phase != "Completed" for pod in found.pods):
            failed = [pod for pod in found.pods if pod.component == "load" and pod.phase == "Failed"]
            if failed:
                raise WorldError(f"{failed[0].name} has failed: {failed[0].message}")
            return None
        kafka = {"bootstrap.servers": platform.kafka.bootstrap_servers}
        missing = 0
        for topic, table in _pairs(feeds):
            held = self._held(platform, table, topic)
            missing += sum(max(0, end - held.get(number, 0)) for number, end in end_offsets(kafka, topic).items())
        return missing

    def _held(self, platform: Platform, table: str, topic: str) -> Mapping[int, int]:
        catalog = open_named(platform.catalog.name, platform.catalog.properties)
        try:
            return recorded_offsets(load_table(catalog, table)).next_of(topic)
        finally:
            catalog.close()

    def _rows(self, platform: Platform, feeds: Sequence[FeedPlan]) -> dict[str, int]:
        catalog = open_named(platform.catalog.name, platform.catalog.properties)
        try:
            found: dict[str, int] = {}
            for topic, table in _pairs(feeds):
                held = recorded_offsets(load_table(catalog, table)).topics[topic]
                found[table] = sum(each.rows for each in held.partitions.values())
            return found
        finally:
            catalog.close()

    def _run(self, shown: Sequence[str], command: Sequence[str], *, answers: bool = False) -> None:
        print(f"\n$ {shlex.join(shown)}", flush=True)  # noqa: T201
        done = subprocess.run(
            command, env=self._env, check=False, stdout=subprocess.PIPE if answers else None, text=True
        )
        if done.returncode:
            log = processes.tail(self.data_dir / "logs" / "up.log", 5)
            raise WorldError(f"`{shlex.join(shown)}` ended with exit code {done.returncode}. The end of up.log:\n{log}")
        if answers:
            print(done.stdout, end="", flush=True)  # noqa: T201
            if SYMBOL not in done.stdout:
                raise WorldError(f"`{shlex.join(shown)}` did not answer with {SYMBOL}")


def _pairs(feeds: Sequence[FeedPlan]) -> list[tuple[str, str]]:
    return [(sink.config.topic, sink.config.table) for feed in feeds for sink in feed.sinks]
