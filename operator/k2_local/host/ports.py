"""Ports of 127.0.0.1: taking the one that is asked for, the one of the last run, or any free one."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence

from k2.model.errors import UserError

LOOPBACK = "127.0.0.1"
UNPRIVILEGED = range(20_000, 32_000)


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
        UserError: when the port that was asked for is taken.
    """
    if asked:
        if not is_free(asked):
            raise UserError(
                f"The port for {what} is taken",
                found=f"{LOOPBACK}:{asked} in use",
                expected="a free port",
                remedy=f"End what listens there (`ss -ltnp 'sport = :{asked}'` names it) or choose another port with {option}",
            )
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
