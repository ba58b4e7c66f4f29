"""`k2 load --dry-run`: what a person sees, and the exit codes, without a platform."""

import json
import subprocess
import sys

import pytest
import typer
from k2_testing.extent import sized
from typer.testing import CliRunner

from k2 import cli_load
from k2.model.errors import UserError
from k2.model.feed_rules import FeedRules, Prices, write_rules

GOOD = "03/10/2014,10:00:00.123,36.5,100,0,,\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path / "data"))
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_load.register(app)

    def invoke(*arguments):
        result = CliRunner().invoke(app, ["load", *map(str, arguments)])
        if isinstance(result.exception, UserError):
            raise result.exception
        return result

    return invoke


def test_a_dry_run_tells_what_a_load_would_do(run, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(GOOD + GOOD + "\n")
    result = run("trades", path, "--exchange", "ASX", "--symbol", "BHP", "--format", "asx", "--dry-run")
    assert result.exit_code == 0
    assert "market.equities.trades.asx: 1 file, dry run: nothing was sent" in result.stdout
    for line in ("read                       2", "repeated rows              1", "blank lines                1"):
        assert line in result.stdout
    assert not (tmp_path / "data").exists()


def test_rejected_rows_make_the_exit_code_4_and_are_shown(run, tmp_path):
    path, rejects = tmp_path / "a.csv", tmp_path / "r.csv"
    path.write_text(GOOD + GOOD.replace("36.5", "-1"))
    arguments = ("trades", path, "-e", "ASX", "-s", "BHP", "-f", "asx", "--dry-run", "--rejects", rejects)
    result = run(*arguments)
    assert result.exit_code == 4
    assert f"rejected: {path} line 2: price is negative: found '-1'" in result.stdout
    assert f"All rejected rows: {rejects}." in result.stdout
    document = json.loads(run(*arguments, "-o", "json").stdout)
    assert (document["read"], document["accepted"], document["rejected"]) == (2, 1, 1)
    rejects.write_text(rejects.read_text().replace(",-1,", ",1,"))
    mended = run("trades", rejects, "-e", "ASX", "-s", "BHP", "-f", "asx", "--dry-run", "-o", "json")
    assert mended.exit_code == 0
    assert json.loads(mended.stdout)["accepted"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--exchange", "XXX"), "Unknown exchange: found 'XXX', expected "),
        (
            ("--exchange", "ASX", "--format", "xml"),
            "Unknown format: found 'xml', expected one of asx, binance-aggtrades, ",
        ),
        (("--exchange", "ASX", "--output", "yaml"), "Unknown --output: found 'yaml', expected table or json"),
        (("--exchange", "ASX", "--prices", "some"), "Unknown --prices: found 'some', expected positive or any"),
        (("--exchange", "ASX", "--format", "asx"), "do not name their symbol, expected --symbol"),
        (("--exchange", "ASX", "--symbol", "B\tHP", "--format", "asx"), "Not a symbol: found 'B\\tHP'"),
        (("--exchange", "ASX", "--symbol", "B\udcff", "--format", "asx"), "Not a symbol: found 'B\\udcff'"),
        (("--exchange", "ASX", "--currency", "\udcff"), "Not a currency: found"),
        (("--exchange", "ASX"), "lacks the column symbol, timestamp, price, quantity"),
    ],
)
def test_wrong_options_are_refused_with_words(run, tmp_path, arguments, words):
    path = tmp_path / "a.csv"
    path.write_text(GOOD)
    with pytest.raises(UserError) as error:
        run("trades", path, *arguments, "--dry-run")
    assert words in str(error.value)


LARGE = "symbol,timestamp,price,quantity\nPEPE,2024-03-04T15:00:00Z,0.0000000000001,7123456789012\nPEPE,2024-03-04T15:00:01Z,1,1\n"


def test_a_dry_run_without_a_platform_is_told_which_decimals_the_table_has(run, tmp_path, monkeypatch):
    monkeypatch.delenv("K2_REGISTRY_URL", raising=False)
    path = tmp_path / "a.csv"
    path.write_text(LARGE)
    assumed = run("trades", path, "-e", "NYSE", "--dry-run")
    assert assumed.exit_code == 4
    assert "standard  (assumed: no registry was asked; --decimals wide for a wide table)" in assumed.stdout
    assert "found '0.0000000000001'; an IcebergTable with spec.decimals: wide holds it" in assumed.stdout
    wide = run("trades", path, "-e", "NYSE", "--dry-run", "--decimals", "wide")
    assert (wide.exit_code, "assumed" in wide.stdout) == (0, False)
    document = json.loads(run("trades", path, "-e", "NYSE", "--dry-run", "--decimals", "wide", "-o", "json").stdout)
    assert (document["decimals"], document["accepted"], document["rejected"]) == ("wide", 2, 0)
    with pytest.raises(UserError, match="Unknown --decimals: found 'huge', expected standard or wide"):
        run("trades", path, "-e", "NYSE", "--dry-run", "--decimals", "huge")


def test_prices_are_as_the_person_says_or_else_as_the_feed_of_the_data_directory(run, tmp_path):
    path = tmp_path / "oil.csv"
    path.write_text("symbol,timestamp,price,quantity\nCL,2020-04-20T18:30:00Z,-37.63,5\nCL,2020-04-20T18:30:00Z,1,1\n")
    arguments = ("trades", path, "-e", "CME", "--dry-run", "-o", "json")

    def rejected(*more):
        return json.loads(run(*arguments, *more).stdout)["rejected"]

    assert (rejected(), rejected("--prices", "any"), rejected("--prices", "positive")) == (1, 0, 1)
    (tmp_path / "data").mkdir()
    write_rules(tmp_path / "data", {"market.futures.trades.cme": FeedRules(Prices.ANY)})
    assert (rejected(), rejected("--prices", "positive")) == (0, 1)
    write_rules(tmp_path / "data", {"market.futures.quotes.cme": FeedRules(Prices.ANY)})
    assert rejected() == 1


def test_an_unknown_data_type_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="expected one of trades, quotes, reference-data"):
        run("bars", tmp_path / "a.csv", "--exchange", "ASX")


def test_rejects_must_not_overwrite_what_is_loaded(run, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(GOOD)
    with pytest.raises(UserError, match="--rejects names a file that is to be loaded"):
        run("trades", path, "-e", "ASX", "-s", "BHP", "-f", "asx", "--rejects", path)


def test_without_a_platform_the_error_says_how_to_get_one(run, tmp_path, monkeypatch):
    monkeypatch.delenv("K2_KAFKA_BOOTSTRAP_SERVERS", raising=False)
    path = tmp_path / "a.csv"
    path.write_text(GOOD)
    with pytest.raises(UserError, match="Start a platform with `k2 up`"):
        run("trades", path, "-e", "ASX", "-s", "BHP", "-f", "asx")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_memory_stays_the_same_for_a_file_of_any_size(tmp_path):
    # VmHWM is this program's own peak; ru_maxrss would be no less than that of the process which started it.
    script = (
        "import sys, typer; from k2 import cli_load; app = typer.Typer(); app.callback()(lambda: None); "
        "cli_load.register(app); app(sys.argv[1:], standalone_mode=False); "
        "print(next(int(l.split()[1]) // 1024 for l in open('/proc/self/status') if l.startswith('VmHWM')))"
    )

    def peak(copies):
        path = tmp_path / f"{copies}.csv"
        with path.open("w") as file:
            for hour in range(copies):
                for i in range(100_000):
                    file.write(
                        f"03/{3 + hour // 6:02}/2014,{10 + hour % 6}:{i // 60 % 60:02}:{i % 60:02}.000,{1 + i % 99},{1 + i % 7},0,,\n"
                    )
        arguments = ["load", "trades", str(path), "-e", "ASX", "-s", "BHP", "-f", "asx", "--dry-run"]
        done = subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True)
        return int(done.stdout.splitlines()[-1])

    small, large = peak(4), peak(sized(16, 40))
    assert large < 300
    assert large < small + 60
