"""Clients that live longer than their credentials: made anew when these change, and never before."""

import pytest
from k2_testing.guarded import MountedSecret

from k2.model.errors import WorldError
from k2.model.settings import Settings
from k2.obs.renewed import Renewed, Watched


def test_a_client_is_made_anew_when_its_settings_change_and_not_before():
    settings, made, closed = {"password": "1"}, [], []
    client = Renewed(
        lambda: settings, lambda of: made.append(of["password"]) or of["password"], "x", close=closed.append
    )
    assert made == [], "at its first use"
    assert (client.now(), client.now(), made) == ("1", "1", ["1"])
    settings["password"] = "2"
    assert client.now() == "1", "it is not yet time to look"
    client = Renewed(lambda: settings, lambda of: of["password"], "x", close=closed.append, look_seconds=0)
    assert (client.now(), client.now()) == ("2", "2")
    settings["password"] = "3"
    assert (client.now(), closed) == ("3", ["2"])
    client.end()
    assert closed == ["2", "3"]


def test_the_client_before_serves_on_while_the_new_one_cannot_be_made():
    settings, taken = {"password": "1"}, {"1"}

    def make(of):
        if of["password"] not in taken:
            raise WorldError("password authentication failed")
        return of["password"]

    client = Renewed(lambda: settings, make, "x", look_seconds=0)
    assert client.now() == "1"
    settings["password"] = "2"
    assert (client.now(), client.now()) == ("1", "1")
    taken.add("2")
    assert client.now() == "2"


def test_the_first_one_is_made_of_what_the_files_say_at_that_try():
    settings = {"password": "1"}

    def make(of):
        if of["password"] == "1":
            raise WorldError("password authentication failed")
        return of["password"]

    client = Renewed(lambda: settings, make, "x")
    with pytest.raises(WorldError):
        client.now()
    settings["password"] = "2"
    assert client.now() == "2"


def test_settings_that_cannot_be_read_for_a_while_stay_as_they_were(tmp_path):
    login = MountedSecret(tmp_path / "login", {"username": "sink", "password": "first"})
    env = Settings(kafka_bootstrap_servers="k:9092", kafka_secret_dir=login.folder)
    watched = Watched(env.kafka_config, look_seconds=0)
    login.write({"username": "sink"})
    assert not watched.look()
    assert watched.now["sasl.password"] == "first"
    login.write({"username": "sink", "password": "second"})
    assert watched.look()
    assert watched.now["sasl.password"] == "second"
