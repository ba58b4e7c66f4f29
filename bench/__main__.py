"""Every benchmark, one table: `python -m bench [--peers] [--quick] [--only NAME …] [--json FILE]`.

Each figure stands beside its baseline of the same run. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import parts

RESULTS = Path(__file__).parent / "results"
NAMES = (
    "codec",
    "parsing",
    "producer",
    "loader",
    "sink",
    "peers",
    "latency",
    "live",
    "queries",
    "history",
    "streams",
    "stores",
    "load",
)
PEERS = {"peers", "stores"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--peers",
        action="store_true",
        help="also what others do (Maven, PyPI): Iceberg's Kafka Connect sink, ClickHouse, QuestDB",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, under four minutes: to see that it works")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--json", type=Path, help="where the results go; default: bench/results/<date>.json")
    parser.add_argument(
        "--load-seconds", type=int, default=30, help="how long many clients ask at once (300 for proof)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    given = parser.parse_args()
    # As Ctrl-C: unwinds, so that what was started is stopped, and is not taken for a benchmark that failed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wanted = set(given.only or NAMES) - (set() if given.peers or given.only else PEERS)
    started = time.monotonic()
    facts = parts.machine()
    found, figures, failed = run(wanted, quick=given.quick, keep=given.keep, seconds=given.load_seconds)
    minutes = (time.monotonic() - started) / 60
    show(figures, facts, minutes)
    path = given.json or RESULTS / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python -m bench", *sys.argv[1:]])
    record = {"command": command, "minutes": round(minutes, 1), "machine": facts, "failed": failed}
    record |= {"figures": [asdict(each) for each in figures], "measurements": found}
    path.write_text(json.dumps(record, indent=2, default=str) + "\n")
    print(f"written to {path}")
    missed = [each for each in figures if each.ok is False]
    if failed:
        print("not measured: " + "; ".join(f"{name}: {why}" for name, why in failed.items()))
        sys.exit(1)
    if missed:
        print(f"{len(missed)} of {sum(each.ok is not None for each in figures)} targets were missed")


def run(
    wanted: set[str], *, quick: bool, keep: bool, seconds: int = 30
) -> tuple[dict, list[parts.Figure], dict[str, str]]:
    """Measure; a benchmark that fails is named and the others go on."""
    found: dict = {}
    figures: list[parts.Figure] = []
    failed: dict[str, str] = {}

    def step(name, measure, show):
        if name not in wanted:
            return
        parts.say(f"--- {name}")
        try:
            found[name] = measure()
            figures.extend(show(found[name]))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, the others are still worth measuring
            failed[name] = f"{type(error).__name__}: {error}"
            parts.say(f"{name} failed: {failed[name]}")

    step("codec", lambda: module("bench.codec", "--json", "--rows", 100_000 if quick else 500_000), codec_figures)
    from bench import parsing

    step("parsing", lambda: parsing.measure(rows=500_000 if quick else 4_000_000), parsing.figures)
    with contextlib.ExitStack() as stack:
        if wanted & {"producer", "loader", "sink", "peers", "latency", "live"}:
            parts.say("starting Kafka and the registry")
            place = stack.enter_context(parts.ground(keep=keep))
            on_ground(place, step, found, quick=quick, wanted=wanted)
    step("queries", lambda: in_folder("bench.queries", quick=quick), query_figures)
    sizes = (200_000, 100, 20) if quick else (2_500_000, 1_000, 100)
    step("history", lambda: in_folder("bench.history", quick=quick, sizes=sizes), history_figures)
    sizes = (1_000_000, 4, 1) if quick else (10_000_000, 4, 3)
    step("streams", lambda: in_folder("bench.streams", quick=quick, sizes=sizes), stream_figures)
    step("stores", lambda: in_folder("bench.stores", quick=quick), store_figures)
    step("load", lambda: load(quick=quick, seconds=seconds), load_figures)
    return found, figures, failed


def on_ground(place: parts.Ground, step, found: dict, *, quick: bool, wanted: set[str]) -> None:
    """What is measured on one broker, topic and disk."""
    from bench import latency, live, loader, peers, sink

    rows = 1_000_000 if quick else 5_000_000
    rounds = 1 if quick else 3
    step(
        "producer",
        lambda: module("bench.producer", "--json", "--rows", rows // 5, "--bootstrap-servers", place.bootstrap_servers),
        producer_figures,
    )
    step("loader", lambda: loader.measure(place, rows=4 * rows // 5), loader.figures)
    # The topic is made longer after the peers, so that they read what the sink read.
    step(
        "sink",
        lambda: sink.measure(place, rows=rows, rounds=rounds, naive_rows=50_000 if quick else 300_000),
        sink.figures,
    )
    if "peers" in wanted and "sink" not in found:
        parts.fill_topic(place, sink.TOPIC, 0, rows)
    step(
        "peers",
        lambda: peers.measure(place, rounds=rounds),
        lambda measured: peers.figures(measured, found.get("sink", {}).get("sink")),
    )
    if "sink" in found and not quick:
        wanted.add("sink, long")
        step("sink, long", lambda: sink.measure_long(place, rows, 2 * rows), sink.long_figures)
    seconds, fleet = (30, 15) if quick else (120, 60)
    step(
        "latency",
        lambda: latency.measure(
            place, seconds=seconds, past=0 if quick else 7_200, past_seconds=300, fleet_seconds=fleet
        ),
        latency.figures,
    )
    step(
        "live",
        lambda: live.measure(place, seconds=10 if quick else 60, rows=1_000_000 if quick else 6_000_000),
        live.figures,
    )


def module(name: str, *arguments: object) -> dict:
    """Run a benchmark in a process of its own that prints one line of JSON."""
    command = [sys.executable, "-m", name, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=900, check=True, cwd=parts.REPOSITORY)
    return json.loads(done.stdout.splitlines()[-1])


def in_folder(name: str, *, quick: bool, sizes: tuple[int, int, int] | None = None) -> dict:
    """Run a benchmark of queries, which writes its figures into a file."""
    import tempfile

    rows, days, rounds = sizes or ((2_000_000, 4, 40) if quick else (50_000_000, 20, 100))
    with tempfile.TemporaryDirectory(prefix="k2-bench-") as folder:
        path = Path(folder) / "figures.json"
        command = [sys.executable, "-m", name, "--rows", rows, "--days", days, "--rounds", rounds, "--json", path]
        subprocess.run([*map(str, command)], stdout=sys.stderr, timeout=1800, check=True, cwd=parts.REPOSITORY)
        return json.loads(path.read_text())


def load(*, quick: bool, seconds: int) -> dict:
    """Many clients at once."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="k2-bench-") as folder:
        path = Path(folder) / "figures.json"
        rows = 2_000_000 if quick else 10_000_000
        command = [sys.executable, "-m", "bench.load", "--rows", rows, "--seconds", seconds, "--json", path]
        subprocess.run(
            [*map(str, command)], stdout=sys.stderr, timeout=600 + 3 * seconds, check=True, cwd=parts.REPOSITORY
        )
        return json.loads(path.read_text())


def codec_figures(found: dict) -> list[parts.Figure]:
    return [
        parts.figure(
            "codec",
            f"{way}, {found['bytes per message']:.0f} bytes a message",
            found[f"{way}, columns"],
            "rows/s",
            baseline=found[f"{way}, fastavro"],
            of="fastavro",
        )
        for way in ("encode", "decode")
    ]


def producer_figures(found: dict) -> list[parts.Figure]:
    return [
        parts.figure(
            "producer",
            "Arrow batch → acknowledged messages",
            found["columns"],
            "msg/s",
            baseline=found["rows"],
            of="fastavro, a record at a time",
            at_least=300_000,
            times=4,
        ),
        parts.figure("producer", "peak memory, the batch and the baseline included", found["peak RSS, MiB"], "MiB"),
    ]


def query_figures(found: dict) -> list[parts.Figure]:
    """At the API beside DuckDB by hand; of the compacted table once more without the round trip, of which DuckDB has none."""
    lines = {(line["question"], line["way"]): line["p50_ms"] for line in found["figures"]}
    worst = {(line["question"], line["way"]): line["p99_ms"] for line in found["figures"]}
    shown = []

    def show(figure, value, **bounds):
        shown.append(parts.figure("queries", figure, value, "ms", **bounds))

    for question in dict.fromkeys(line["question"] for line in found["figures"]):
        tight = question.endswith("compacted")
        api, hand = lines[question, "api"], {"baseline": lines[question, "by hand"], "of": "DuckDB by hand"}
        label = f"{question}, {found['rows'] / 1e6:g} M rows, at the API, p50"
        show(label, api, **hand, at_most=12 if tight else 25, most_times=1.5)
        if tight:
            trip = lines[question, "round trip (/health)"]
            show(f"{question}, less a round trip of {trip:.1f} ms", api - trip, **hand, most_times=1.3)
        if (question, "api, Arrow") in lines:
            show(f"{question}, as Arrow, p50", lines[question, "api, Arrow"], **hand)
        show(f"{question}, p99", worst[question, "api"], at_most=50 if tight else 100)
    shown.append(parts.figure("queries", "query service's memory", found["service_rss_mib"], "MiB"))
    return shown


def history_figures(found: dict) -> list[parts.Figure]:
    lines = {(line["question"], line["table"]): line["p50_ms"] for line in found["figures"]}
    long = f"{found['days']} days"
    return [
        parts.figure(
            "history",
            f"{question} of one day among {long}, in process, p50",
            lines[question, long],
            "ms",
            baseline=lines[question, "1 day"],
            of="a table of that day",
            most_times=1.5,
        )
        for question in ("summary", "trades")
    ]


def stream_figures(found: dict) -> list[parts.Figure]:
    shown = []
    for line in found["figures"]:
        label = f"{found['rows'] / 1e6:g} M rows as Arrow, {line['columns']}"
        shown += [
            parts.figure(
                "streams",
                label,
                line["rows_s"],
                "rows/s",
                baseline=line["hand_rows_s"],
                of="DuckDB alone",
                at_least=5_000_000,
            ),
            parts.figure("streams", "first byte", line["first_ms"], "ms", at_most=100),
            parts.figure(
                "streams",
                "service's peak memory",
                line["peak_mib"],
                "MiB",
                baseline=line["half_mib"],
                of="at half of the first",
                most_times=1.2,
            ),
        ]
    return shown


def load_figures(found: dict) -> list[parts.Figure]:
    clients, memory, lanes = f"{found['clients']} clients", found["rss_mib"], found["lanes"]
    return [
        parts.figure(
            "load", f"{clients}, {found['seconds']:g} s: neither answer nor refusal", len(found["wrong"]), "", at_most=0
        ),
        parts.figure("load", f"{clients}, p50", found["p50_ms"], "ms"),
        parts.figure("load", f"{clients}, p99", found["p99_ms"], "ms"),
        parts.figure("load", "/health meanwhile, the worst", found["health_worst_ms"], "ms", at_most=1000),
        parts.figure(
            "load",
            "memory at the end",
            memory["last quarter"],
            "MiB",
            baseline=memory["after a quarter"],
            of="after a quarter of the time",
            most_times=1.2,
        ),
        parts.figure(
            "load",
            "summary beside a client that streams everything, p50",
            lanes["beside a giant"]["p50_ms"],
            "ms",
            baseline=lanes["alone"]["p50_ms"],
            of="alone",
            most_times=2,
        ),
    ]


def store_figures(found: dict) -> list[parts.Figure]:
    """K2 on a compacted table beside each peer; the table as the sink leaves it beside the compacted one."""
    lines = {(line["question"], line["store"]): line["p50_ms"] for line in found["figures"]}
    shown = []
    for question in dict.fromkeys(line["question"] for line in found["figures"]):
        ours = lines[question, "K2, compacted"]
        label = f"{question}, {found['rows'] / 1e6:g} M rows, in process, p50"
        for peer in ("ClickHouse", "QuestDB"):
            if (question, peer) in lines:
                of = f"{peer}{', over HTTP' if peer == 'QuestDB' else ''}"
                shown.append(
                    parts.figure("stores", label, ours, "ms", baseline=lines[question, peer], of=of, most_times=1.0)
                )
        sunk = lines[question, "K2, four files a day"]
        shown.append(parts.figure("stores", f"{question}, four files a day", sunk, "ms", baseline=ours, of="compacted"))
    return shown


def show(figures: list[parts.Figure], facts: dict, minutes: float) -> None:
    table = Table(title="K2's benchmarks", title_justify="left")
    for heading, justify in (
        ("benchmark", "left"),
        ("figure", "left"),
        ("measured", "right"),
        ("baseline", "left"),
        ("ratio", "right"),
        ("target", "left"),
        ("ok", "left"),
    ):
        table.add_column(heading, justify=justify)
    last = ""
    for each in figures:
        table.add_row(
            each.benchmark if each.benchmark != last else "",
            each.figure + (f" ({each.note})" if each.note else ""),
            amount(each.value, each.unit),
            f"{amount(each.baseline, each.unit)}, {each.baseline_name}" if each.baseline is not None else "",
            "" if each.ratio is None else f"{each.ratio:.2f} x",
            each.target,
            {True: "yes", False: "NO", None: ""}[each.ok],
        )
        last = each.benchmark
    Console(width=None if sys.stdout.isatty() else 180).print(table)
    print(
        f"{facts['cores']} cores ({facts['processor']}), {facts['memory_gib']} GiB, Python {facts['python']}, "
        f"load before the start {facts['load_before'][0]}; {minutes:.1f} minutes"
    )


def amount(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


if __name__ == "__main__":
    main()
