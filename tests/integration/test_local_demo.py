"""`k2 demo` and `k2 demo-reset` from beginning to end, with every real part: what a newcomer sees first."""

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(1500)]


def k2(cwd, *arguments, answer=""):
    env = {name: value for name, value in os.environ.items() if not name.startswith("K2_") or name == "K2_CACHE_DIR"}
    return subprocess.run(
        [sys.executable, "-m", "k2", *arguments],
        cwd=cwd,
        env=env,
        input=answer,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory in which a demo has run, and what it said."""
    cwd = tmp_path_factory.mktemp("demo")
    done = k2(cwd, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    return cwd, done.stdout


def test_the_demo_loads_asks_audits_and_stops_by_itself(folder):
    cwd, said = folder
    assert "market_data.trades: 66,000 rows" in said
    assert "market_data.quotes: 132,000 rows" in said
    assert "$ k2-query summary ACME 2026-03-02" in said
    assert "66,000 rows, every offset once, nothing missing" in said
    assert "Done in" in said
    assert not list((cwd / ".k2-demo" / "run").glob("*.json"))
    assert [path.name for path in cwd.iterdir()] == [".k2-demo"]


def test_a_second_demo_adds_nothing(folder):
    cwd, _ = folder
    again = k2(cwd, "demo")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "market_data.trades: 66,000 rows" in again.stdout


def test_demo_reset_shows_asks_keeps_and_deletes(folder):
    cwd, _ = folder
    place = cwd / ".k2-demo"
    shown = k2(cwd, "demo-reset", "--dry-run")
    assert shown.stdout.startswith(f"would delete {place}")
    assert k2(cwd, "demo-reset", answer="n\n").returncode == 1
    assert (place / "warehouse").is_dir()
    wrong = k2(cwd, "demo-reset", "--keep", "tables")
    assert wrong.returncode == 2
    assert "Not a part of the demo: found 'tables', expected one of data, logs, key" in wrong.stderr
    assert k2(cwd, "demo-reset", "--keep", "logs", answer="y\n").returncode == 0
    assert [path.name for path in place.iterdir()] == ["logs"]
    assert k2(cwd, "demo-reset", "--yes").returncode == 0
    assert not place.exists()
    assert k2(cwd, "demo-reset", "--yes").stderr == "The demo has left nothing.\n"
