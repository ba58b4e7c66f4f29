"""What `k2 up` finds in a data directory in which a platform runs already, or did."""

import os
import sys
from dataclasses import replace

import psutil
import pytest
from typer.testing import CliRunner

from k2.cli import app
from k2.model.errors import UserError
from k2_local import state
from k2_local.host.processes import Record

ME = Record("up", os.getpid(), psutil.Process().create_time(), "up.log")
RUNNING = state.State(ME, "2026-11-30T20:00:00Z", True, "http://127.0.0.1:8000", (), ())


@pytest.mark.parametrize("more", [[], ["--detach"]])
def test_a_second_platform_is_refused_once_before_anything_is_started(tmp_path, monkeypatch, more):
    RUNNING.write(tmp_path)
    words = ["up", "--port", "8000", *more]
    monkeypatch.setattr(sys, "argv", ["k2", *words])
    refused = CliRunner().invoke(app, words, env={"K2_DATA_DIR": str(tmp_path)})
    assert isinstance(refused.exception, UserError)
    assert str(refused.exception) == (
        f"A platform already runs in this data directory: found '{tmp_path}, process {os.getpid()}'. `k2 status` shows it and "
        "`k2 down` ends it; for a second one set K2_DATA_DIR and --port."
    )
    assert refused.output == ""
    assert [each.name for each in tmp_path.iterdir()] == [state.FILE]


def test_a_platform_that_ended_is_in_nobodys_way(tmp_path):
    state.refuse_running(tmp_path)
    replace(RUNNING, supervisor=replace(ME, started=ME.started - 3600)).write(tmp_path)
    state.refuse_running(tmp_path)
