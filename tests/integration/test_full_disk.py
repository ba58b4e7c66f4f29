"""A disk without room: the service's temporary directory, its access log and its own log lie on one, and reading goes on."""

import http.client
import json
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from k2_testing.lake import make_lake
from k2_testing.query_process import RUN, query_process
from k2_testing.sinks import eventually
from k2_testing.ticks import append_ticks, at

from k2.api.access.keys import new_key, write_keys
from k2.model.topics import DataType


@pytest.fixture
def small_disk(tmp_path):
    """A disk of a mebibyte and a few dozen files."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=40", "tmpfs", str(mounted)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"this process may not mount a file system: {done.stderr.strip()}")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


def fill(disk):
    with (disk / "ballast").open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    with suppress(OSError):
        for number in range(100):
            (disk / f"file-{number}").touch()
    with pytest.raises(OSError, match="No space left"):  # the premise: neither a byte nor a file fits
        (disk / "one-more").touch()


def test_a_full_disk_stops_no_reading(tmp_path, small_disk, monkeypatch):
    lake = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    begin = at("2014-03-09T23:00:00")
    append_ticks(lake, [{"timestamp": begin + timedelta(milliseconds=n)} for n in range(20_000)])
    key, entry = new_key("desk", now=datetime.now(UTC))
    write_keys(tmp_path / "keys.json", [entry])
    monkeypatch.setenv("TMPDIR", str(small_disk))
    access_log, own_log = small_disk / "access.log", small_disk / "service.log"
    command = ("bash", "-c", f'exec "$@" > "{own_log}" 2>&1', "bash", *RUN)
    with query_process(tmp_path, command, access_log_file=str(access_log)) as port:

        def get(path):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", path, headers={"X-API-Key": key})
            reply = connection.getresponse()
            body = reply.read()
            connection.close()
            return reply.status, body

        asked = "/v1/trades?symbol=BHP&exchange=ASX&limit=5"
        whole = [get(asked), get("/v1/trades?symbol=BHP&exchange=ASX&limit=20000&format=csv")]
        assert [status for status, _ in whole] == [200, 200]
        fill(small_disk)
        access_log.rename(small_disk / "rotated.log")  # and no room for a new one
        for _ in range(20):
            assert get("/ready")[0] == 200
            again = [get(asked), get("/v1/trades?symbol=BHP&exchange=ASX&limit=20000&format=csv")]
            assert [status for status, _ in again] == [200, 200]
            assert json.loads(again[0][1])["data"] == json.loads(whole[0][1])["data"]
            assert again[1] == whole[1]
        assert get("/health")[0] == 200
        assert not access_log.exists()
        for each in (small_disk / "ballast", *small_disk.glob("file-*")):
            each.unlink()
        assert get(asked)[0] == 200
        eventually(lambda: "access_log.written_again" in own_log.read_text(), "the log goes on", 60)
        lines = [json.loads(line) for line in access_log.read_text().splitlines() if line.startswith("{")]
        assert lines[-1]["route"] == "/v1/trades"
        said = own_log.read_text()
        assert "Traceback" not in said
        assert "Exception" not in said
