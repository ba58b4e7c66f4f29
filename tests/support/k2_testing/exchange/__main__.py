"""The stand-in exchange as a process: `python -m k2_testing.exchange --venue binance --port 9443 --ca-out ca.pem`.

Prints one line of JSON when it listens (addresses, symbols, authority), and runs until SIGTERM or Ctrl-C; then what it counted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import threading
from pathlib import Path

from k2_testing.exchange.exchange import Exchange
from k2_testing.exchange.faults import Fault, Script
from k2_testing.exchange.protocols.registry import PROTOCOLS


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="k2_testing.exchange", description="A stand-in exchange on this machine.")
    parser.add_argument("--venue", choices=sorted(PROTOCOLS), default="binance")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument(
        "--ca-out", type=Path, help="where the authority's certificate is written, for clients to trust"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--symbols", type=int, default=10)
    parser.add_argument("--rate", type=float, default=50.0, help="trades a second; 0: as fast as the clients read")
    parser.add_argument("--quote-rate", type=float, default=0.0, help="quotes a second")
    parser.add_argument("--trades", type=int, help="how many before the market goes quiet; none: no end")
    parser.add_argument("--history", type=int, default=100, help="trades of each symbol from before it began")
    parser.add_argument("--waits", action="store_true", help="begin when every symbol is heard by somebody")
    parser.add_argument(
        "--faults", type=int, default=0, help="how many faults, by the seed, within --faults-within trades"
    )
    parser.add_argument("--faults-within", type=int, default=10_000)
    parser.add_argument("--fault", action="append", choices=sorted(Fault), help="only these (may be repeated)")
    parser.add_argument(
        "--rule", action="append", default=[], metavar="NAME=NUMBER", help="ping_seconds=0.5 and the like"
    )
    return parser


def main() -> int:
    """Run until told to stop."""
    given = _arguments().parse_args()
    script = Script()
    if given.faults:
        kinds = {"kinds": [Fault(fault) for fault in given.fault]} if given.fault else {}
        script = Script.drawn(given.seed, given.faults_within, given.faults, **kinds)
    rules = {name: float(value) for name, _, value in (rule.partition("=") for rule in given.rule)}
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    exchange = Exchange(
        venue=given.venue,
        port=given.port,
        seed=given.seed,
        listed=given.symbols,
        rate=given.rate or None,
        quote_rate=given.quote_rate,
        trades=given.trades,
        history=given.history,
        waits=given.waits,
        script=script,
        rules=rules,
    )
    with exchange:
        ca_file = exchange.ca_file
        if given.ca_out:
            shutil.copyfile(exchange.ca_file, given.ca_out)
            ca_file = given.ca_out.resolve()
        if not given.waits:
            exchange.begin()
        where = {
            "url": exchange.url,
            "rest_url": exchange.rest_url,
            "ca_file": str(ca_file),
            "symbols": exchange.symbols,
        }
        print(json.dumps(where), flush=True)  # noqa: T201  (a command)
        stopped.wait()
        print(json.dumps(exchange.counts.figures() | {"made": exchange.made}), flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
