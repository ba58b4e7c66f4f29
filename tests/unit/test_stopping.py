"""Signals that ask for a stop, raised between every two lines of what the main thread is at."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from k2_testing.interrupt import at_every_line

from k2.obs.stopping import stop_on_signals
from k2_local.host.signals import Stopping, held

DEADLOCK = """
import signal, sys, threading
sys.path[:0] = {path!r}
from k2_testing.interrupt import at_every_line
event = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: event.set())
print("begins", flush=True)
for _ in at_every_line(lambda: event.wait(0.01), signal.SIGTERM):
    event.clear()
"""


def test_an_event_that_a_handler_sets_can_wait_for_ever_which_is_why_none_does():
    """The control: it shows that the tests below can fail."""
    command = [sys.executable, "-c", DEADLOCK.format(path=sys.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"begins\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()


def test_a_stop_comes_through_wherever_it_finds_the_main_thread_waiting():
    waits = 0
    with Stopping() as stopping:
        for found in at_every_line(lambda: stopping.wait(0.01), signal.SIGTERM):
            assert found is True
            assert stopping.asked
            stopping._asked = False
            os.read(stopping._reader, 1)
            waits += 1
    assert waits > 2


def test_a_workloads_stop_comes_through_wherever_it_finds_the_main_thread_waiting():
    line, hit = 0, True
    while hit:
        told = []
        with stop_on_signals(told.append) as stop:
            hit = next(at_every_line(lambda stop=stop: [stop.wait(0.001)], signal.SIGTERM, line), None)
            assert not hit or stop.wait(60)
        assert told == ([signal.SIGTERM] if hit else [])
        line += 1
    assert line > 5


def test_a_second_signal_ends_a_workload_that_says_so():
    with stop_on_signals(second_ends=True) as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.wait(60)
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(signal.SIGTERM)
        assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_outside_of_the_main_thread_no_signal_sets_it():
    found = []

    def run():
        with stop_on_signals() as stop:
            found.append(stop.is_set())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert found == [False]


def test_while_something_starts_a_signal_interrupts_it_once():
    with Stopping() as stopping:
        with pytest.raises(KeyboardInterrupt), stopping.interrupting():
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # changes nothing: it is stopping already
        assert stopping.wait(60)


def test_an_interrupt_that_a_finalizer_swallows_comes_at_the_end_of_the_start():
    class Swallows:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    with Stopping() as stopping:
        went_on = False
        with stopping.interrupting():
            del (swallows := [Swallows()])[0]
            went_on = True
            assert swallows == []
        assert went_on
        assert stopping.wait(60)


def test_an_interrupt_is_put_off_while_a_step_must_not_be_cut():
    steps = []

    def start(stopping):
        with stopping.interrupting():
            with held():
                steps.append("begun")
                signal.raise_signal(signal.SIGTERM)
                steps.append("done")
            steps.append("too far")

    with Stopping() as stopping, pytest.raises(KeyboardInterrupt):
        start(stopping)
    assert steps == ["begun", "done"]


def test_a_second_ctrl_c_ends_the_process_at_once():
    program = """
import signal
from k2_local.host.signals import Stopping
with Stopping() as stopping:
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        signal.raise_signal(number)
    print("not reached")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "")
