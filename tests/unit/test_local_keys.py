"""The key that a local platform makes for its own commands, beside those that its user makes."""

from datetime import UTC, datetime

from k2.api.access.keys import digest_of, new_key, read_keys, write_keys
from k2_local.services.parts import ensure_api_key


def digests(path):
    return [entry.sha256 for entry in read_keys(path)]


def test_the_first_start_makes_a_key_and_later_ones_keep_it(tmp_path):
    path = ensure_api_key(tmp_path)
    key = (tmp_path / "api-key").read_text().strip()
    assert digests(path) == [digest_of(key)]
    assert ensure_api_key(tmp_path) == path
    assert (tmp_path / "api-key").read_text().strip() == key
    assert digests(path) == [digest_of(key)]
    assert [each.stat().st_mode & 0o777 for each in (path, tmp_path / "api-key")] == [0o600, 0o600]


def test_keys_that_were_made_before_the_first_start_stay(tmp_path):
    _, entry = new_key("desk", now=datetime(2026, 1, 1, tzinfo=UTC))
    path = tmp_path / "secrets" / "k2-api-keys" / "keys.json"
    write_keys(path, [entry])
    assert ensure_api_key(tmp_path) == path
    assert digests(path) == [entry.sha256, digest_of((tmp_path / "api-key").read_text().strip())]


def test_a_local_key_that_was_taken_away_stays_away(tmp_path):
    path = ensure_api_key(tmp_path)
    write_keys(path, [])
    ensure_api_key(tmp_path)
    assert digests(path) == []
