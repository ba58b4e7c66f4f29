"""How the running platform is shown to a person: the table after `k2 up`, and `k2 status`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from k2_local.services.parts import API_KEY_FILE
from k2_local.state import State


def ready(state: State, data_dir: Path, *, detached: bool = False) -> None:
    """What a person needs next: addresses, the key, where the logs are, commands to try."""
    console = _console()
    console.print()
    console.print(_parts(state))
    key_file = _short(data_dir / API_KEY_FILE)
    # On a terminal only: what is piped often ends in a log.
    key = (
        f"{(data_dir / API_KEY_FILE).read_text().strip()}   (in {key_file})"
        if sys.stdout.isatty()
        else f"in {key_file}"
    )
    for name, text in (
        ("Query API", f"{state.api_url}/docs"),
        ("API key", key),
        ("Logs", f"{_short(data_dir / 'logs')}/NAME.log"),
        ("Try", f"curl -H \"X-API-Key: $(cat {key_file})\" '{state.api_url}/v1/symbols'"),
        ("Stop", "k2 down" if detached else "Ctrl-C"),
    ):
        console.print(f"[bold]{name:<10}[/bold]", end="")
        console.print(text, soft_wrap=True, highlight=False, markup=False)


def status(state: State, data_dir: Path) -> None:
    """Everything that runs, with its use of memory and disk."""
    console = _console()
    found = usage(state, data_dir)
    console.print(f"[bold]{'ready' if state.ready else 'NOT READY'}[/bold], since {state.started_at}, in {data_dir}")
    console.print(_parts(state, found["memory_bytes"]))
    for pod in state.pods:
        if pod.message and not pod.ready:
            console.print(f"{pod.name}: {pod.message}", soft_wrap=True, markup=False)
        if pod.warning and pod.warning != pod.message:
            console.print(f"{pod.name}: warning: {pod.warning}", soft_wrap=True, markup=False)
    supervisor, total = found["memory_bytes"]["supervisor"], found["memory_total_bytes"]
    console.print(f"memory: {_megabytes(total)}, the supervisor's {_megabytes(supervisor)} among them", soft_wrap=True)
    disk = ", ".join(f"{name} {_megabytes(size)}" for name, size in found["disk_bytes"].items())
    console.print(f"disk: {disk}; {_megabytes(found['disk_free_bytes'])} free", soft_wrap=True)
    console.print(f"logs: {_short(data_dir / 'logs')}/NAME.log", soft_wrap=True)
    console.print(f"query API: {state.serving_at or 'does not serve'}", soft_wrap=True)


def usage(state: State, data_dir: Path) -> dict[str, Any]:
    """Memory per process and size on disk per folder, in bytes.

    On Linux a page that several processes share, such as a library's, counts in parts (PSS), so that the sum is what all of them
    take; elsewhere each counts it whole (RSS).
    """
    pids = {"supervisor": state.supervisor.pid}
    pids |= {part.name: part.pid for part in state.parts if part.pid}
    pids |= {pod.name: pod.pid for pod in state.pods if pod.pid}
    folders = ("kafka", "registry", "warehouse", "logs")
    disk = {name: size(data_dir / name) for name in folders if (data_dir / name).is_dir()}
    disk["catalog"] = sum(path.stat().st_size for path in data_dir.glob("catalog.db*"))
    memory = {name: _memory_of(pid) for name, pid in pids.items()}
    return {
        "memory_bytes": memory,
        "memory_total_bytes": sum(memory.values()),
        "disk_bytes": disk,
        "disk_total_bytes": size(data_dir),
        "disk_free_bytes": shutil.disk_usage(data_dir).free,
    }


def size(folder: Path) -> int:
    """Bytes that a folder takes on the disk; sparse files (Kafka's indexes) count what they hold."""
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(Path(root) / name).st_blocks * 512
            except OSError:  # deleted meanwhile
                continue
    return total


def _parts(state: State, memory: dict[str, int] | None = None) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("NAME", "STATE", "ADDRESS", "PID", "RESTARTS", *(["MEMORY"] if memory else [])):
        table.add_column(heading, no_wrap=True)
    for part in state.parts:
        row = [part.name, "running" if part.pid else "", part.address, str(part.pid or ""), ""]
        table.add_row(*row, *_memory(memory, part.name))
    for pod in state.pods:
        told = "ready" if pod.ready and pod.phase == "Running" and pod.component != "load" else pod.phase
        address = ", ".join(f"127.0.0.1:{port}" for port in pod.ports.values())
        row = [pod.name, told, address, str(pod.pid or ""), str(pod.restarts)]
        table.add_row(*row, *_memory(memory, pod.name))
    return table


def _memory(memory: dict[str, int] | None, name: str) -> list[str]:
    return [] if memory is None else [_megabytes(memory[name]) if memory.get(name) else ""]


def _memory_of(pid: int) -> int:
    try:
        found = psutil.Process(pid).memory_full_info()
        return int(getattr(found, "pss", found.rss))
    except psutil.Error:
        return 0


def _megabytes(number: int) -> str:
    return f"{number / 1e6:,.0f} MB"


def _short(path: Path) -> str:
    """The path as one would type it here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _console() -> Console:
    # A file or a pipe has no width: do not fold addresses there.
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)
