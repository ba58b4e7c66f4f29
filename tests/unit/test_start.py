"""What a process loads before it begins: each module is paid for by every command and by every pod that starts."""

import json
import subprocess
import sys

import pytest

HEAVY = {"confluent_kafka", "duckdb", "fastapi", "kopf", "kubernetes", "pandas", "polars", "pyiceberg", "sqlalchemy"}


def loaded(code: str) -> set[str]:
    """The packages that a new process has loaded at the end of `code`."""
    told = "; import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + told], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_command_line_loads_what_its_command_needs_and_no_more():
    assert not loaded("import k2.cli") & HEAVY


@pytest.mark.parametrize("workload", ["k2.sink.run", "k2.feeds.run"])
def test_a_workload_has_neither_pandas_nor_a_server_in_it(workload):
    began = "from k2.obs.without_extras import without_extras; without_extras(); "
    array = "; import pyarrow; pyarrow.array([1])"
    assert not loaded(f"{began}import {workload}{array}") & {"duckdb", "fastapi", "kopf", "pandas"}
    # The control: without the first call pyarrow's first array loads pandas, where it is installed.
    assert "pandas" in loaded(f"import {workload}{array}")


def test_every_workload_starts_without_extras():
    code = (
        "import contextlib, sys; from k2.cli import app; sys.argv[1:] = ['run', 'sink']\n"
        "with contextlib.suppress(Exception, SystemExit): app()  # no configuration: it ends at once\n"
        "import k2.sink.run, pyarrow; pyarrow.array([1])"
    )
    assert "pandas" not in loaded(code)


def test_the_operator_has_no_packages_in_it_that_its_libraries_would_load_and_nobody_uses():
    code = (
        "import contextlib, os, sys; os.environ['K2_DATA_DIR'] = '/nowhere'; from k2_operator.__main__ import main\n"
        "with contextlib.suppress(Exception, SystemExit): main()  # no platform.yaml: it ends at once\n"
        "import kopf, pyarrow, pyiceberg; pyarrow.array([1])"
    )
    assert not loaded(code) & {"pandas", "pykube"}
