"""Ports of 127.0.0.1: taking the one that is asked for, the one of the last run, or any free one; who holds a taken one."""

from __future__ import annotations

import random
import shlex
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from k2.model.errors import UserError

LOOPBACK = "127.0.0.1"
UNPRIVILEGED = range(20_000, 32_000)
_ALSO_LOOPBACK = frozenset({LOOPBACK, "0.0.0.0", "::", "::ffff:127.0.0.1"})  # noqa: S104 - looked at, not listened on
_COMMAND_CHARACTERS = 80


class PortTakenError(UserError):
    """The port that was asked for is taken; says by whom where the machine tells it."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that listens on a port: its command, and the data directory of the platform of K2 that it is part of."""

    pid: int
    command: str
    data_dir: Path | None

    def __str__(self) -> str:
        part = f", of the platform in {self.data_dir}" if self.data_dir else ""
        return f"process {self.pid} ({self.command}){part}"


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose connections are in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def choose(asked: int | None, remembered: int | None, *, what: str, option: str, taken: Sequence[int] = ()) -> int:
    """The port to listen on.

    Args:
        asked: what the user wants; it is that one or an error.
        remembered: the port of the last run, taken again when it is free.
        what: the listener, for the error's text.
        option: how the user says another port, for the error's text.
        taken: ports that are promised to others but not yet bound.

    Raises:
        PortTakenError: the port that was asked for is taken.
        UserError: there is no free one.
    """
    if asked:
        if not is_free(asked):
            raise _taken(asked, what, option)
        return asked
    if remembered and remembered not in taken and is_free(remembered):
        return remembered
    # Below the range that the kernel gives to outgoing connections: a client that keeps trying a port of that range while
    # the server restarts can end up connected to itself, and then holds the very port that the server needs.
    for port in random.sample(UNPRIVILEGED, len(UNPRIVILEGED)):
        if port not in taken and is_free(port):
            return port
    raise UserError(
        f"No port for {what}", found="all in use", expected=f"a free one in {UNPRIVILEGED}", remedy=f"Give {option}"
    )


def refuse_taken(asked: int, *, what: str, option: str, but_by: Collection[int] = ()) -> None:
    """Refuse a port that is taken, before anything is begun that costs time; `but_by` are processes that may hold it.

    Raises:
        PortTakenError: another process holds it.
    """
    if is_free(asked):
        return
    held = holder(asked)
    if held is None or held.pid not in but_by:
        raise _taken(asked, what, option)


def holder(port: int) -> Holder | None:
    """Who listens on the port; None where the machine does not tell this user."""
    try:
        pids = [each.pid for each in psutil.net_connections("tcp") if _listens(each, port)]
        pid = next(filter(None, pids))
        process = psutil.Process(pid)
        command = shlex.join(process.cmdline()) or process.name()
        folder = Path(process.cwd()).parent.parent
    except (psutil.Error, OSError, StopIteration):
        return None
    # A workload of `k2 up` works in a folder of its own below its platform's.
    own = folder if (folder / "platform.yaml").is_file() else None
    return Holder(pid, command if len(command) <= _COMMAND_CHARACTERS else f"{command[:_COMMAND_CHARACTERS]}…", own)


def _listens(connection: Any, port: int) -> bool:
    here = connection.laddr
    return connection.status == psutil.CONN_LISTEN and here.port == port and here.ip in _ALSO_LOOPBACK


def _taken(port: int, what: str, option: str) -> PortTakenError:
    held = holder(port)
    end = f"End what listens there (`ss -ltnp 'sport = :{port}'` names it to its owner)"
    if held is not None:
        end = (
            f"End that platform (`K2_DATA_DIR={shlex.quote(str(held.data_dir))} k2 down`)"
            if held.data_dir
            else "End it"
        )
    return PortTakenError(
        f"The port for {what} is taken",
        found=f"{LOOPBACK}:{port} in use" + (f" by {held}" if held else ""),
        expected="a free port",
        remedy=f"{end}, or choose another port with {option}",
    )
