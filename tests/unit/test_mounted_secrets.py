"""Credentials as files: read whole and of one version, and given in one way."""

import threading
import time
from itertools import count

import pytest
from k2_testing.guarded import MountedSecret

from k2.model.errors import UserError
from k2.model.mounted import mounted_login, mounted_secret
from k2.model.settings import Settings


@pytest.fixture
def login(tmp_path):
    return MountedSecret(tmp_path / "login", {"username": "sink", "password": "first"})


def kafka(**more):
    return Settings(kafka_bootstrap_servers="k:9092", kafka_sasl_mechanism="SCRAM-SHA-512", **more)


def test_what_the_files_say_now_is_what_counts_and_not_what_they_said(login):
    env = kafka(kafka_secret_dir=login.folder, registry_url="http://r", registry_secret_dir=login.folder)
    assert env.kafka_config()["sasl.password"] == "first"
    login.write({"username": "sink", "password": "second\n"})
    assert env.kafka_config()["sasl.username"] == "sink"
    assert env.kafka_config()["sasl.password"] == "second", "without the line end that editors add"
    assert env.registry_config()["basic.auth.user.info"] == "sink:second"


def test_the_catalogs_files_are_properties_over_those_that_are_no_secret(tmp_path):
    secret = MountedSecret(tmp_path / "catalog", {"uri": "postgresql://one", "s3.session-token": "t"})
    env = Settings(catalog_properties={"type": "sql", "uri": "none"}, catalog_secret_dir=secret.folder)
    assert env.catalog_config() == {"type": "sql", "uri": "postgresql://one", "s3.session-token": "t"}
    secret.write({"uri": "postgresql://two"})
    assert env.catalog_config() == {"type": "sql", "uri": "postgresql://two"}


def test_variables_go_on_to_work_and_beside_the_directory_they_are_refused(login):
    assert kafka(kafka_username="u", kafka_password="p").kafka_config()["sasl.password"] == "p"
    both = kafka(kafka_password="p", kafka_secret_dir=login.folder)
    with pytest.raises(
        UserError, match="K2_KAFKA's credentials are given twice: found 'K2_KAFKA_SECRET_DIR beside"
    ) as told:
        both.kafka_config()
    assert "K2_KAFKA_PASSWORD" in str(told.value)
    registry = Settings(registry_url="http://r", registry_username="u", registry_secret_dir=login.folder)
    with pytest.raises(UserError, match="K2_REGISTRY_USERNAME"):
        registry.registry_config()


def test_a_secret_that_is_not_there_or_lacks_a_key_is_told_by_what_it_has(tmp_path, login):
    with pytest.raises(UserError, match="no such directory"):
        mounted_secret(tmp_path / "none", "K2_CATALOG_SECRET_DIR")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Not a directory"):
        mounted_secret(tmp_path / "file", "K2_CATALOG_SECRET_DIR")
    login.write({"username": "sink", "pass": "x"})
    with pytest.raises(
        UserError, match="has no login: found 'pass, username', expected files `username` and `password`"
    ):
        mounted_login(login.folder, "K2_KAFKA_SECRET_DIR")


def test_a_folder_that_a_person_has_made_is_read_as_it_is(tmp_path):
    (tmp_path / "username").write_text("u\n")
    (tmp_path / "password").write_text("p")
    (tmp_path / ".hidden").write_text("x")
    assert mounted_secret(tmp_path, "K2_KAFKA_SECRET_DIR") == {"username": "u", "password": "p"}


def test_user_and_password_are_of_one_version_however_often_they_change(login):
    stop = threading.Event()

    def change():
        for number in count():
            login.write({"username": f"user-{number}", "password": f"password-{number}"})
            if stop.wait(0.001):
                return

    login.write({"username": "user-x", "password": "password-x"})
    thread = threading.Thread(target=change)
    thread.start()
    try:
        found, deadline = set(), time.monotonic() + 60
        while len(found) < 50 and time.monotonic() < deadline:
            found.add(mounted_login(login.folder, "K2_KAFKA_SECRET_DIR"))
    finally:
        stop.set()
        thread.join(30)
    assert {user.removeprefix("user-") == password.removeprefix("password-") for user, password in found} == {True}
    assert len(found) == 50, "nothing changed meanwhile: nothing was proven"
