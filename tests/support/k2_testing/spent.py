"""What has failed, as soon as it has, and where a test run's time went: by folder, by file, the slowest tests, the machine's share.

A run that mostly waits can be made shorter by more workers (`make test WORKERS=6`); one that mostly works cannot.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SLOWEST = 25
FILES = 30
# Fields of the first line of /proc/stat that are no work: idle, iowait, and guest times, which are in user and nice already.
_NO_WORK = {3, 4, 8, 9}


@dataclass(slots=True)
class Entry:
    """One test's seconds on the clock: making what it needs, itself, and clearing away; and the processor's (see `worked`)."""

    setup: float = 0.0
    call: float = 0.0
    teardown: float = 0.0
    worked: float = 0.0
    figures: list[tuple[str, object]] = field(default_factory=list)

    @property
    def total(self) -> float:
        """All three."""
        return self.setup + self.call + self.teardown


class Spent:
    """A pytest plugin; with several workers it hears of every test in the process that started them."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._began = time.monotonic()
        self._worked = machine_seconds()
        self._own = own_seconds()
        self.entries: dict[str, Entry] = defaultdict(Entry)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        now = own_seconds()
        # xdist carries whatever fields a report has to the process that started the workers.
        vars(report)["worked"], self._own = now - self._own, now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._say(report)
        if report.when not in {"setup", "call", "teardown"}:
            return  # of a worker that crashed
        entry = self.entries[report.nodeid]
        setattr(entry, report.when, getattr(entry, report.when) + report.duration)
        entry.worked += getattr(report, "worked", 0.0)
        if report.when == "teardown":
            entry.figures += report.user_properties

    def _say(self, report: pytest.TestReport) -> None:
        """Name what has failed at once: the summary is half an hour off, and a run that is broken off has none."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        crash = getattr(report.longrepr, "reprcrash", None)
        if terminal is not None and not hasattr(self._config, "workerinput"):
            terminal.write_line(f"\nFAILED {report.nodeid} ({report.when}): {getattr(crash, 'message', '')[:300]}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.entries:
            return
        wall = time.monotonic() - self._began
        terminalreporter.section("where the time went")
        for line in lines(self.entries, wall, machine_seconds() - self._worked):
            terminalreporter.write_line(line)


def own_seconds() -> float:
    """Processor seconds of this process and of the processes it started that have ended; a broker that goes on is not in it."""
    return sum(os.times()[:4])


def machine_seconds() -> float:
    """Processor seconds that the whole machine has worked since it started; 0 where Linux's counters are not there."""
    try:
        counted = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    ticks = sum(int(value) for place, value in enumerate(counted) if place not in _NO_WORK)
    return ticks / os.sysconf("SC_CLK_TCK")


def lines(entries: dict[str, Entry], wall: float, worked: float) -> Iterable[str]:
    """The report. Pure."""
    cores = os.cpu_count() or 1
    yield f"{_clock(wall)} on the clock; {cores} cores worked {_clock(worked)}, {worked / (wall * cores):.0%} of what they have"
    folders: dict[str, list[Entry]] = defaultdict(list)
    for name, entry in entries.items():
        folders[name.partition("::")[0].rpartition("/")[0]].append(entry)
    yield ""
    yield f"{'folder':<24}{'tests':>7}{'setup':>10}{'tests':>10}{'teardown':>10}{'processor':>11}"
    for folder, of_it in sorted(folders.items(), key=lambda item: -sum(each.total for each in item[1])):
        sums = (sum(getattr(each, part) for each in of_it) for part in ("setup", "call", "teardown", "worked"))
        yield f"{folder:<24}{len(of_it):>7}" + "".join(f"{_clock(part):>10}" for part in sums)
    yield ""
    files: dict[str, list[Entry]] = defaultdict(list)
    for name, entry in entries.items():
        files[name.partition("::")[0]].append(entry)
    taken = {
        name: (sum(each.total for each in of_it), sum(each.worked for each in of_it)) for name, of_it in files.items()
    }
    yield f"the {FILES} longest files: seconds on the clock, seconds of a processor; a worker takes whole files"
    for name, (clock, worked_of_it) in sorted(taken.items(), key=lambda item: -item[1][0])[:FILES]:
        yield f"{clock:7.1f} {worked_of_it:7.1f}  {name}"
    yield ""
    yield f"the {SLOWEST} slowest, in seconds (setup, test, teardown)"
    for name, entry in sorted(entries.items(), key=lambda item: -item[1].total)[:SLOWEST]:
        yield f"{entry.total:7.1f}  ({entry.setup:.1f}, {entry.call:.1f}, {entry.teardown:.1f})  {name}"
    told = [(name, entry.figures) for name, entry in entries.items() if entry.figures]
    if told:
        yield ""
        yield "figures that tests measured"
    for name, figures in told:
        yield f"  {name}: " + ", ".join(f"{key}={value}" for key, value in figures)


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
