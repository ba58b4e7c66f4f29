"""A signal between any two lines of a call: what happens by chance once in a million times, made to happen at every place."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator


def at_every_line(call: Callable[[], object], number: signal.Signals, skipped: int = 0) -> Iterator[object]:
    """Call again and again, with the signal raised at one line further each time, until a call has no more lines.

    Gives each call's result. `skipped` lines are left out at the beginning. Lines are those of Python code, of libraries too.
    """
    line = skipped
    while True:
        left, raised = line, False

        def trace(_frame: object, event: str, _argument: object) -> object:
            nonlocal left, raised
            if event == "line":
                left -= 1
                if left < 0 and not raised:
                    raised = True
                    signal.raise_signal(number)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            found = call()
        finally:
            sys.settrace(before)
        if not raised:
            return
        yield found
        line += 1
