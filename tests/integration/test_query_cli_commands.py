"""Every command of `k2-query` as a real process, against a real service and against its catalog; every example of every help."""

import csv
import fcntl
import hashlib
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import typer
from k2_testing.committed import committed_lake, trade_batch
from k2_testing.companies import TABLE as REFERENCE
from k2_testing.companies import company, dividend, reference_batch
from k2_testing.lake import TRADES, catalog_properties, make_lake
from k2_testing.query_process import query_process
from typer.testing import CliRunner

from k2.cli import app as whole
from k2.cli_query import app
from k2.lake.appends.batch import OrderedBatch
from k2.lake.appends.commit import Committer, Origin
from k2.lake.appends.writer import write_files
from k2.model.topics import DataType

ROWS, LATER = 70_000, 200
QUERY = Path(sys.executable).with_name("k2-query")
OPEN = "2014-03-09T23:00Z"


def commands(group, name=()):
    """Every command of a group of commands, by its words."""
    for word, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from commands(command, (*name, word))
        else:
            yield (*name, word), command


QUERIES = dict(commands(typer.main.get_command(app)))
EXAMPLES = [
    line.strip()
    for epilog in [app.info.epilog, *(command.epilog for command in QUERIES.values())]
    for line in (epilog or "").splitlines()
    if line.startswith("    ")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("cli")
    committed_lake(made, ROWS, LATER)
    known = [
        company("7078", "BHP", "2000-01-03"),
        company("7181", "DVN", "2000-01-03"),
        dividend("7078", "2014-03-11", "0.5"),
    ]
    lake, origin = (
        make_lake(made, DataType.REFERENCE_DATA),
        Origin("market.equities.reference_data.asx", "topic-3", "c"),
    )
    Committer(lake, REFERENCE, origin, DataType.REFERENCE_DATA).commit(reference_batch(known))
    (made / "keys.json").write_text(json.dumps([{"name": "desk", "sha256": hashlib.sha256(b"key").hexdigest()}]))
    return made


@pytest.fixture(scope="module")
def clean():
    return {name: value for name, value in os.environ.items() if not name.startswith("K2_") and name != "NO_COLOR"} | {
        "PATH": f"{QUERY.parent}:{os.environ['PATH']}"
    }


@pytest.fixture(scope="module")
def catalog(folder, clean):
    """The environment of one who has the catalog alone."""
    return clean | {"K2_CATALOG_PROPERTIES": json.dumps(catalog_properties(folder)), "K2_DATA_DIR": str(folder)}


@pytest.fixture(scope="module")
def service(folder, clean):
    """The environment of one who has the service alone."""
    with query_process(folder) as port:
        yield clean | {"K2_API_URL": f"http://127.0.0.1:{port}", "K2_API_KEY": "key", "K2_DATA_DIR": "/nonexistent"}


def run(env, *arguments):
    return subprocess.run([QUERY, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)


def interruptible(env, *arguments):
    """The process, with both its pipes, as a terminal would start it: what started the tests may have had SIGINT ignored."""
    start = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    asked = [sys.executable, "-c", start, QUERY, *arguments]
    return subprocess.Popen(asked, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def shell(env, line, cwd=None):
    asked = ["bash", "-euo", "pipefail", "-c", line]
    return subprocess.run(asked, env=env, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def test_every_command_has_an_example():
    assert QUERIES
    assert {command.epilog is not None and "k2-query" in command.epilog for command in QUERIES.values()} == {True}


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_every_help_runs(example, service, tmp_path):
    done = shell(service, example, tmp_path)
    assert (done.returncode, "error" in done.stderr) == (0, False), done.stderr
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert len((done.stdout.encode() + written).splitlines()) >= (0 if "unpin" in example else 1)


@pytest.mark.parametrize(("root", "name"), [(app, "k2-query"), (whole, "k2")])
def test_h_helps_everywhere(root, name):
    group = typer.main.get_command(root)
    for words in [(), *dict(commands(group))]:
        shown = CliRunner().invoke(root, [*words, "-h"], prog_name=name)
        assert (shown.exit_code, "Usage:" in shown.stdout) == (0, True), words


@pytest.mark.parametrize(
    "arguments",
    [
        ("trades", "BHP", "DVN", "--fields", "timestamp,symbol", "--fields", "price", "--no-hybrid", "-n", "7"),
        ("trades", "-n", "3"),
        ("bars", "BHP", "DVN", "--interval", "15m", "--date", "2014-03-10", "--empty", "carry"),
        ("bars", "BHP", "--start", OPEN, "--end", "2014-03-09T23:05Z", "--session", "regular"),
        ("asof", "BHP", "--start", "2014-03-09T23:00:05Z", "-n", "5"),
        ("asof", "BHP", "-n", "5", "--lookback", "1s", "--fields", "timestamp,bid_price"),
        ("summary", "BHP", "2014-03-10", "--session", "regular"),
        ("reference", "BHP", "--history"),
        ("trades", "BHP", "--adjusted", "all", "-n", "3"),
        ("bars", "BHP", "--interval", "1d", "--date", "2014-03-10", "--adjusted", "splits"),
        ("audit",),
        ("pins",),
    ],
)
def test_a_service_and_its_catalog_answer_alike(arguments, service, catalog):
    for output in ("table", "csv", "json"):
        there, here = (run(env, *arguments, "-o", output) for env in (service, catalog))
        assert (there.returncode, there.stderr) == (0, here.stderr)
        if output == "json" and there.stdout.startswith("{"):
            said, found = json.loads(there.stdout), json.loads(here.stdout)
            assert said.get("data") == found.get("data")
            assert len(said.get("data", [0])) > 0 or arguments == ("pins",)
        else:
            assert there.stdout == here.stdout


def test_several_symbols_and_fields_are_what_was_asked_for(service):
    done = run(service, "trades", "DVN", "BHP", "--fields", "price,symbol", "-o", "csv", "-n", "6")
    lines = done.stdout.splitlines()
    assert lines[0] == "price,symbol"
    assert [line.partition(",")[2] for line in lines[1:]] == ["BHP", "BHP", "DVN"] * 2
    assert run(service, "trades", "DVN", "BHP", "--fields", "price,symbol", "-n", "1").stdout.split() == [
        "price", "symbol", "37.01", "BHP"
    ]  # fmt: skip


def test_all_rows_come_batch_by_batch_as_one_csv_and_one_json(service, catalog):
    for env in (service, catalog):
        text = run(env, "trades", "--all", "-o", "csv", "--fields", "source_sequence,symbol")
        numbers = [row["source_sequence"] for row in csv.DictReader(io.StringIO(text.stdout))]
        assert numbers == [str(n) for n in range(ROWS + LATER)]  # a second header would be one of them
        assert text.stderr == ""
        whole = run(env, "trades", "BHP", "--all", "-o", "json", "--fields", "source_sequence")
        body = json.loads(whole.stdout)
        assert next(iter(body)) == "data"
        assert (len(body["data"]), body["count"], body["more"]) == (46_800, 46_800, False)
    table = run(service, "quotes", "--all", "--fields", "quote_id").stdout.split()
    assert table == ["quote_id", *(f"Q{n}" for n in range(ROWS // 10))]


def test_pins_fix_what_questions_see_until_they_are_let_go(service):
    first = json.loads(run(service, "snapshots", "-o", "json").stdout)["data"][-1]["snapshot_id"]
    made = run(service, "pin", "--table", "trades", "--snapshot", f"trades={first}", "--ttl", "2h")
    pin = made.stdout.strip()
    assert re.fullmatch(r"[0-9a-f]{16}", pin)
    assert "trades at 20" in made.stderr
    assert pin in run(service, "pins").stdout
    seen = {
        name: json.loads(run(service, "stats" if name else "symbols", "-o", "json").stdout) for name in (True, False)
    }
    assert seen[True]["tables"][0]["rows"] == ROWS + LATER
    held = json.loads(run(service, "symbols", "--pin", pin, "-o", "json").stdout)["data"]
    assert sum(each["rows"] for each in held) == ROWS
    last = run(service, "trades", "--pin", pin, "--start", "2014-03-10T00:56:30Z", "--all", "-o", "csv")
    assert len(last.stdout.splitlines()) == 1 + ROWS - 69_900
    assert run(service, "unpin", pin).returncode == 0
    gone = run(service, "symbols", "--pin", pin)
    assert (gone.returncode, gone.stdout) == (2, "")
    assert gone.stderr.startswith("error: ")


def test_a_difference_is_what_came_in_between(service):
    listed = json.loads(run(service, "snapshots", "-o", "json").stdout)["data"]
    done = run(
        service, "diff", "--from", listed[-1]["snapshot_id"], "--all", "-o", "csv", "--fields", "source_sequence"
    )
    assert done.stdout.splitlines()[1:] == [str(n) for n in range(ROWS, ROWS + LATER)]
    nothing = run(service, "diff", "--from", listed[0]["snapshot_id"], "--to", listed[0]["snapshot_id"])
    assert (nothing.returncode, len(nothing.stdout.splitlines())) == (0, 1)
    of_a_date = ["diff", "--from", listed[-1]["snapshot_id"], "--all", "-o", "csv", "--session", "regular", "--date"]
    assert len(run(service, *of_a_date, "2014-03-10").stdout.splitlines()) == 1 + LATER
    assert len(run(service, *of_a_date, "2014-03-11").stdout.splitlines()) == 1


def test_stats_and_symbols_are_as_they_were(service):
    first = json.loads(run(service, "snapshots", "-o", "json").stdout)["data"][-1]
    then = json.loads(run(service, "stats", "--as-of", first["time"], "-o", "json").stdout)["tables"][0]
    assert then["rows"] == ROWS
    at = json.loads(run(service, "symbols", "--snapshot", first["snapshot_id"], "-o", "json").stdout)["data"]
    assert sum(each["rows"] for each in at) == ROWS


def test_an_audit_that_finds_something_ends_with_1(tmp_path, clean):
    lake = committed_lake(tmp_path, 30, 10)
    env = clean | {"K2_CATALOG_PROPERTIES": json.dumps(catalog_properties(tmp_path)), "K2_DATA_DIR": str(tmp_path)}
    well = run(env, "audit")
    assert (well.returncode, well.stderr) == (0, "")
    assert "market_data.trades" in well.stdout
    assert "40 rows, every offset once, nothing missing" in well.stdout
    table = lake.load_table(TRADES)
    rows = trade_batch(range(3, 6)).rows.append_column("kafka_topic_id", [["topic-1"] * 3])
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        for file in write_files(table, rows, OrderedBatch(rows, DataType.TRADES).order):
            append.append_data_file(file.data_file)
    found = run(env, "audit", "--table", "trades")
    assert (found.returncode, found.stderr) == (1, "NOT every offset is in the tables once\n")
    assert "WRONG at offsets 3, 4, 5" in found.stdout
    assert run(env, "audit", "--table", "quotes").returncode == 0
    for output in ("json", "csv"):
        assert run(env, "audit", "-o", output).returncode == 1
    assert json.loads(run(env, "audit", "-o", "json").stdout)["tables"][0]["partitions"][0]["examples"] == [3, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trades", "BHP", "-n", "5", "--all"], "error: Both --limit and --all are given, expected one of them."),
        (["bars", "BHP", "--chart", "-o", "json"], "error: --chart is a picture: found '--output json', expected one of them."),
        (["bars", "BHP", "--date", "2014-03-10", "--start", OPEN], "error: Both date and start or end are given, expected"),
        (["trades", "BHP", "--fields", "prize"], "error: "),
        (["pin", "--ttl", "long"], "error: --ttl is no duration: found 'long', expected a number and s, m, h, d or w, such as 7d."),
        (["unpin", "0123456789abcdef"], "error: "),
        (["replay", "--merged", "trades"], "error: --merged is of both tables: found 'trades', expected one of them."),
        (["replay", "--cursor", "x", "--symbol", "BHP"], "error: A cursor is given with what it says itself: found 'symbols', "),
        (["replay", "--cursor", "x"], "error: "),
        (["replay", "--speed", "2", "--rate", "3"], "error: "),
        (["diff", "--from", "1"], "error: "),
    ],
)  # fmt: skip
def test_what_the_user_can_mend_ends_with_2_and_one_line(arguments, said, service, catalog):
    for env in (service, catalog):
        done = run(env, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(said)
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "command",
    [
        "k2-query trades --all -o csv", "k2-query trades --all -o json", "k2-query trades --all",
        "k2-query replay trades", "k2-query bars BHP -i 1m",
    ],
)  # fmt: skip
def test_a_reader_that_has_enough_is_a_good_end(command, service):
    done = shell(service, f"{command} | head -c 100")
    assert (done.returncode, len(done.stdout)) == (0, 100), done.stderr
    assert "rror" not in done.stderr


def test_a_replay_of_a_service_is_that_of_its_catalog(service, catalog):
    asked = ["replay", "--merged", "--symbol", "BHP", "--end", "2014-03-09T23:01Z"]
    there, here = (run(env, *asked) for env in (service, catalog))
    assert there.stdout == here.stdout
    kinds = [row["type"] for row in csv.DictReader(io.StringIO(there.stdout))]
    assert (kinds.count("quote"), kinds.count("trade")) == (41, 400)
    assert re.search(r"^441 events in .*\nto go on after the last: --cursor \S+$", there.stderr)
    assert run(service, "replay", "quotes", "--end", OPEN, "-o", "json").stdout.count("\n") == 1


def test_a_replay_that_was_interrupted_ends_with_130_and_goes_on_at_its_cursor(service):
    process = interruptible(service, "replay", "trades", "--symbol", "DVN", "--rate", "2000", "-o", "json")
    first = [process.stdout.readline() for _ in range(500)]
    process.send_signal(signal.SIGINT)
    rest, said = process.stdout.read(), process.stderr.read()
    assert process.wait(90) == 130
    cursor = re.search(r"--cursor (\S+)", said)[1]
    further = run(service, "replay", "--cursor", cursor, "-o", "json")
    assert further.returncode == 0
    numbers = [json.loads(line)["source_sequence"] for line in [*first, *(rest + further.stdout).splitlines()]]
    assert numbers == list(range(2, ROWS + LATER, 3))


def test_a_follower_waits_for_more_until_it_is_interrupted(service, catalog):
    process = interruptible(service, "replay", "quotes", "--start", "2014-03-10T00:50Z", "--follow", "-o", "json")
    there = [json.loads(process.stdout.readline())["quote_id"] for _ in range(399)]
    assert (there[0], there[-1]) == ("Q6601", "Q6999")
    assert not select.select([process.stdout, process.stderr], [], [], 1.5)[0]  # neither more, nor an end
    process.send_signal(signal.SIGINT)
    assert process.stderr.read().startswith("399 events in ")
    assert process.wait(90) == 130
    alone = run(catalog, "replay", "quotes", "--follow")  # what comes in is Kafka's to tell
    assert (alone.returncode, alone.stdout) == (2, "")
    assert alone.stderr.startswith("error: Kafka's address is not known, expected ")


def on_a_terminal(env, arguments, size=(80, 24), *, out=True, err=True, seconds=120.0):
    """What a process writes to a terminal of that size, which its stderr is (and its stdout, where `out`)."""
    mine, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    stdout = its if out else subprocess.DEVNULL
    stderr = its if err else subprocess.DEVNULL
    # What ran the tests may have said its own size there.
    env = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(arguments, env=env, stdin=its, stdout=stdout, stderr=stderr)
    os.close(its)
    shown, deadline = b"", time.monotonic() + seconds
    while time.monotonic() < deadline:
        if select.select([mine], [], [], 0.1)[0]:
            try:
                piece = os.read(mine, 65_536)
            except OSError:  # it has ended
                break
            shown += piece
    os.close(mine)
    assert process.wait(60) == 0, shown.decode()
    return shown.decode().replace("\r\n", "\n")


CHART = ["bars", "BHP", "--interval", "5m", "--date", "2014-03-10", "--session", "regular", "--chart"]


@pytest.mark.parametrize("size", [(80, 24), (60, 16), (132, 43)])
def test_a_chart_fits_the_terminal_in_colours(service, size):
    env = service | {"TERM": "xterm-256color"}
    shown = on_a_terminal(env, [QUERY, *CHART], size, err=False)  # where it takes long, it says so on stderr
    assert "\x1b[31m" in shown
    assert "\x1b[32m" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    lines = plain.splitlines()
    assert max(map(len, lines)) <= size[0]
    assert len(lines) <= size[1] - 1
    assert lines[0] == "BHP ASX  5m  Mon 10 Mar 2014  Australia/Sydney"
    assert lines[-2].startswith("10:00")
    for without in (env | {"NO_COLOR": "1"}, env | {"TERM": "dumb"}):
        assert "\x1b[3" not in on_a_terminal(without, [QUERY, *CHART], size, err=False)


def test_a_chart_in_a_file_is_plain(service):
    done = run(service, *CHART)
    assert (done.returncode, "\x1b" in done.stdout + done.stderr) == (0, False)
    assert done.stderr == "of ASX only trades of the profile on_market (--profile none: all)\n"
    assert "Australia/Sydney" in done.stdout


def test_one_who_waits_at_a_terminal_is_told_how_far_it_is(service):
    asked = [QUERY, "replay", "trades", "--symbol", "DVN", "--rate", "3000", "--end", "2014-03-10T00:10Z"]
    told = on_a_terminal(service | {"TERM": "xterm-256color"}, asked, out=False)
    assert re.search(r"[0-9,]+ rows, [0-9,]+ a second", told)
    asked[-1] = "2014-03-09T23:00:30Z"  # done in no time, for one who begins to wait after a minute
    patient = "import k2.cli_query.waiting as w; w._PATIENCE_SECONDS = 60.0; from k2.cli_query import main; main()"
    quick = [sys.executable, "-c", patient, *asked[1:]]
    assert "rows," not in on_a_terminal(service | {"TERM": "xterm-256color"}, quick, out=False)


def test_a_question_to_a_service_loads_no_engine(service):
    code = (
        "import sys; from k2.cli_query import main; sys.argv[1:] = ['trades', 'BHP', '-n', '1', '-o', 'csv']\n"
        "try:\n    main()\nexcept SystemExit:\n    print(*sorted(m for m in sys.modules if '.' not in m), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=service, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines())
    assert {"pyarrow", "httpx"} <= loaded
    assert not loaded & {"duckdb", "fastapi", "pandas", "polars", "pyiceberg", "sqlalchemy", "starlette", "uvicorn"}


@pytest.mark.parametrize("name", ["k2-query", "k2 query"])
def test_a_shell_completes_commands_options_and_values(name, clean, tmp_path):
    program = name.split()[0]
    env = clean | {"HOME": str(tmp_path)}
    script = (
        f"{program} --install-completion >/dev/null; source ~/.bash_completions/{program}.sh\n"
        'ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); '
        '"$(complete -p "$1" | sed "s/.*-F \\([^ ]*\\).*/\\1/")" "$1"; echo "${COMPREPLY[*]}"; }\n'
        f"ask {name} su; ask {name} bars BHP --int; ask {name} bars BHP --interval 1"
    )
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["summary", "--interval", "1m 15m 1h 1d"], done.stderr


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_completion_is_shown_for_each_shell(shell_name, clean):
    env = clean | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = run(env, "--show-completion", shell_name)
    assert done.returncode == 0
    assert f"_K2_QUERY_COMPLETE=complete_{shell_name}" in done.stdout
