"""API keys: what is made, what is kept of it, which open when, and the command that keeps their file."""

import json
import re
import stat
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from typer.testing import CliRunner

from k2.api.access.auth import KeyRing
from k2.api.access.keys import (
    ApiKey,
    KeyLimits,
    KeyRules,
    digest_of,
    new_key,
    parse_keys,
    prefix_of,
    read_keys,
    write_keys,
)
from k2.cli import app
from k2.model.errors import UserError, WorldError
from k2.model.topics import DataType
from k2.query.rows.visibility import Sight

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


def names(ring, *keys):
    return [None if (known := ring.find(key)) is None else known.entry.name for key in keys]


def test_a_key_is_random_and_its_file_holds_nothing_that_opens(tmp_path):
    made = {new_key("desk", now=NOW)[0] for _ in range(200)}
    assert len(made) == 200
    assert all(re.fullmatch(r"k2_[A-Za-z0-9]{8}_[A-Za-z0-9]{43}", key) for key in made)
    key, entry = new_key("desk", now=NOW)
    path = tmp_path / "deep" / "keys.json"
    write_keys(path, [entry])
    text = path.read_text()
    assert key not in text
    assert key.rpartition("_")[2] not in text
    assert (entry.prefix, entry.sha256) == (prefix_of(key), digest_of(key))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_keys(path) == (entry,)


def test_keys_of_either_form_open_and_others_do_not(tmp_path):
    path = tmp_path / "keys.json"
    key, entry = new_key("new", now=NOW)
    old = {"name": "old", "sha256": digest_of("any text").upper()}
    path.write_text(json.dumps([old, entry.model_dump(mode="json")]))
    ring = KeyRing(path)
    other = f"k2_{entry.prefix}_{'x' * 43}"
    assert names(ring, key, "any text", other, "", digest_of(key), key + "x", key.upper()) == [
        "new",
        "old",
        *[None] * 5,
    ]


def test_several_keys_of_a_name_open_each_in_its_time(tmp_path):
    path, clock = tmp_path / "keys.json", Clock()
    first, one = new_key("desk", now=NOW, expires=NOW + timedelta(hours=1))
    second, two = new_key("desk", now=NOW, not_before=NOW + timedelta(minutes=30))
    write_keys(path, [one, two])
    ring = KeyRing(path, now=clock)

    def states():
        return [ring.state(ring.find(key)) for key in (first, second)]

    assert states() == ["active", "pending"]
    clock.now += timedelta(minutes=30)
    assert states() == ["active", "active"]
    clock.now += timedelta(minutes=30)
    assert states() == ["expired", "active"]


def test_an_entry_that_opens_is_preferred_to_one_of_the_same_key_that_does_not(tmp_path):
    path = tmp_path / "keys.json"
    key, entry = new_key("desk", now=NOW, expires=NOW + timedelta(hours=1))
    write_keys(path, [entry, entry.model_copy(update={"expires": None}), entry])
    ring = KeyRing(path, now=lambda: NOW + timedelta(days=1))
    assert ring.state(ring.find(key)) == "active"


def test_a_secret_that_kubernetes_exchanges_is_read_at_once_and_a_broken_one_changes_nothing(tmp_path):
    """A mounted Secret: keys.json → ..data/keys.json, and ..data is the link that is exchanged."""
    key, entry = new_key("one", now=NOW)
    other, replacement = new_key("two", now=NOW)

    def exchange(number, text):
        version = tmp_path / f"..{number}"
        version.mkdir()
        (version / "keys.json").write_text(text)
        link = tmp_path / "..data_tmp"
        link.symlink_to(version.name)
        link.replace(tmp_path / "..data")

    from k2.api.access.keys import render_keys

    exchange(1, render_keys([entry]))
    (tmp_path / "keys.json").symlink_to("..data/keys.json")
    ring = KeyRing(tmp_path / "keys.json")
    assert names(ring, key, other) == ["one", None]
    exchange(2, render_keys([replacement]))
    assert names(ring, key, other) == [None, "two"]
    exchange(3, "[{")
    assert names(ring, key, other) == [None, "two"]
    (tmp_path / "..data").unlink()
    assert names(ring, key, other) == [None, "two"]
    exchange(4, render_keys([entry, replacement]))
    assert names(ring, key, other) == ["one", "two"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"sha256": "00"}, "0.name"),
        ({"name": "x", "sha256": "00"}, "0.sha256"),
        ({"name": "x", "sha256": "0" * 64, "expires": "2026-01-01T00:00:00"}, "0.expires"),  # whose midnight?
        ({"name": "x", "sha256": "0" * 64, "rules": {"exchanges": []}}, "0.rules.exchanges"),  # everything or nothing?
        ({"name": "x", "sha256": "0" * 64, "rules": {"symbol": ["BHP"]}}, "0.rules.symbol"),  # must not be overlooked
        ({"name": "x", "sha256": "0" * 64, "limits": {"requests_per_second": 0}}, "0.limits.requests_per_second"),
        ({"name": "x", "sha256": "0" * 64, "limits": {"requests_per_second": float("nan")}}, "requests_per_second"),
    ],
)
def test_a_wrong_entry_is_named_and_its_values_are_not_repeated(entry, said):
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        parse_keys(json.dumps([entry | {"name": entry.get("name", "")} if "name" in entry else entry]))
    assert "0" * 64 not in str(raised.value)


def test_rules_become_what_the_planner_asks():
    rules = KeyRules(tables=("trades",), exchanges=(" asx ",), symbols=("BHP",), oldest="1970-01-02")
    assert rules.sight() == Sight(frozenset({DataType.TRADES}), frozenset({"ASX"}), frozenset({"BHP"}), 86_400_000_000)
    assert ApiKey(name="x", sha256="0" * 64).sight == Sight()


def test_a_burst_is_what_a_second_brings_unless_it_is_given():
    assert [KeyLimits(requests_per_second=rate).bucket for rate in (0.2, 1, 2.5)] == [1, 1, 3]
    assert KeyLimits(requests_per_second=2, burst=9).bucket == 9


def test_a_file_that_cannot_be_written_is_left_as_it_was(tmp_path):
    path = tmp_path / "keys.json"
    path.mkdir()
    with pytest.raises(WorldError, match="cannot be written"):
        write_keys(path, [])
    assert list(tmp_path.iterdir()) == [path]


# --- k2 keys ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    runner = CliRunner()
    path = tmp_path / "keys.json"

    def k2_keys(*arguments):
        result = runner.invoke(app, ["keys", *arguments, "--file", str(path)])
        if isinstance(result.exception, Exception):
            raise result.exception
        return result

    k2_keys.path = path
    return k2_keys


def test_create_prints_the_key_once_and_the_file_opens_to_it(run):
    made = run("create", "desk", "--exchange", "asx", "--symbol", "BHP", "--table", "trades", "--oldest", "2024-01-01",
               "--rate", "20", "--burst", "40", "--concurrent", "4", "--rows-per-day", "1000000", "--expires", "90d")  # fmt: skip
    key = made.stdout.strip()
    (entry,) = read_keys(run.path)
    assert KeyRing(run.path).find(key).entry == entry
    assert entry.rules == KeyRules(tables=("trades",), exchanges=("ASX",), symbols=("BHP",), oldest="2024-01-01")
    assert entry.limits == KeyLimits(requests_per_second=20, burst=40, concurrent=4, rows_per_day=1_000_000)
    assert entry.expires - entry.created == timedelta(days=90)
    listed = run("list").stdout
    assert entry.prefix in listed
    assert key not in listed
    assert entry.sha256 not in run("list", "--output", "json").stdout


def test_rotate_gives_a_further_key_with_the_same_rules_and_lets_the_old_one_run_out(run):
    old = run("create", "desk", "--exchange", "ASX", "--rate", "5").stdout.strip()
    run("create", "other")
    new = run("rotate", "desk", "--overlap", "12h").stdout.strip()
    first, other, second = read_keys(run.path)
    assert (second.rules, second.limits, second.expires) == (first.rules, first.limits, None)
    assert timedelta(hours=11) < first.expires - datetime.now(UTC) <= timedelta(hours=12)
    assert other.expires is None
    ring = KeyRing(run.path)
    assert [ring.state(ring.find(key)) for key in (old, new)] == ["active", "active"]
    run("rotate", "desk", "--overlap", "0m")
    ring = KeyRing(run.path)
    assert [ring.state(ring.find(key)) for key in (old, new)] == ["expired", "expired"]
    run("rotate", "desk")  # what has expired is cleared away
    assert KeyRing(run.path).find(old) is None


def test_revoke_takes_a_key_by_its_prefix_or_name_and_asks_where_there_are_several(run):
    run("create", "desk")
    run("create", "desk")
    run("create", "other")
    first, second, _ = read_keys(run.path)
    with pytest.raises(UserError, match=rf"desk has several keys: found '{first.prefix}, {second.prefix}', expected"):
        run("revoke", "desk")
    run("revoke", first.prefix)
    run("revoke", "other")
    assert read_keys(run.path) == (second,)
    with pytest.raises(UserError, match="There is no such key: found 'other'"):
        run("revoke", "other")


def test_with_kubernetes_stdout_is_a_manifest_without_the_key(run):
    made = run("create", "desk", "--kubernetes", "--secret-name", "keys", "--namespace", "k2")
    manifest = yaml.safe_load(made.stdout)
    assert (manifest["kind"], manifest["metadata"]) == ("Secret", {"name": "keys", "namespace": "k2"})
    assert parse_keys(manifest["stringData"]["keys.json"]) == read_keys(run.path)
    key = next(line for line in made.stderr.splitlines() if line.startswith("k2_"))
    assert key not in made.stdout
    assert KeyRing(run.path).find(key) is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "x", "--expires", "soon"), "--expires is not a time: found 'soon'"),
        (("create", "x", "--expires", "2020-01-01"), "The key would never open"),
        (("create", "x", "--rate", "-1"), "requests_per_second cannot be used: found -1.0"),
        (("create", "x", "--burst", "5"), "--burst means nothing without --rate"),
        (("create", "x", "--exchange", "A B"), "Not an exchange's code: found 'A B'"),
        (("create", ""), "Not a key's name: found ''"),
        (("rotate", "nobody"), "There is no key of that name: found 'nobody'"),
        (("list", "--output", "xml"), "--output cannot be used: found 'xml'"),
    ],
)
def test_a_mistake_is_said_and_changes_nothing(run, arguments, said):
    with pytest.raises(UserError, match=re.escape(said)):
        run(*arguments)
    assert not run.path.exists()


def test_a_broken_file_is_not_overwritten(run):
    run.path.write_text("[{")
    with pytest.raises(UserError, match=r"The file of keys .* cannot be used: found 'not JSON: JSONDecodeError'"):
        run("create", "desk")
    assert run.path.read_text() == "[{"
