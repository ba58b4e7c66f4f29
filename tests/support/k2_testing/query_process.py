"""The query service as a process of its own, on a test's own lake: what may be killed and started again."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from k2_testing.lake import catalog_properties
from k2_testing.sinks import eventually, ready


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


RUN = (sys.executable, "-m", "k2", "run", "query")


def start(folder: Path, port: int, command: Sequence[str] = RUN, **config: Any) -> subprocess.Popen[bytes]:
    """Start the service over the lake in that folder, with its `keys.json`, and wait until it is ready."""
    path = folder / "query.json"
    path.write_text(json.dumps({"api_keys_file": str(folder / "keys.json")} | config))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("K2_")} | {
        "K2_CATALOG_PROPERTIES": json.dumps(catalog_properties(folder)),
        "K2_CONFIG_FILE": str(path),
        "K2_DATA_DIR": str(folder),
        "K2_HTTP_PORT": str(port),
    }
    with (folder / "query.log").open("ab") as log:
        process = subprocess.Popen([*command], env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: ready(port) or process.poll() is not None, "the service is ready", 120)
        assert process.poll() is None, (folder / "query.log").read_text()[-2000:]
    except BaseException:
        process.kill()
        process.wait(90)
        raise
    return process


@contextmanager
def query_process(folder: Path, command: Sequence[str] = RUN, **config: Any) -> Iterator[int]:
    """The service's port, while it runs; `config` are fields of `QueryConfig`, `command` another way to start it."""
    port = free_port()
    process = start(folder, port, command, **config)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(90)
