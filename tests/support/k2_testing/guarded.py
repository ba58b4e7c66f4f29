"""Real servers that ask for credentials, whose credentials can be changed while they run; and Secrets as a kubelet mounts them."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg2
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from pyarrow.fs import S3FileSystem

from k2_local.host import ports
from k2_local.services.kafka import LocalKafka
from k2_testing import charts
from k2_testing.cluster import until
from k2_testing.controlplane import UnavailableError, free_port

USER = "k2"
REAUTHENTICATE_MS = 4_000
"""For so long a connection to Kafka lives without a login: a rotated password is asked for by those that stand, too."""


class MountedSecret:
    """A Secret as a kubelet mounts it: each version in a folder of its own, and a link to the one that counts."""

    def __init__(self, folder: Path, held: Mapping[str, str]) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._versions = itertools.count(1)
        self.write(held)
        for key in held:
            (folder / key).symlink_to(Path("..data") / key)

    def write(self, held: Mapping[str, str]) -> None:
        """Let it be another version; the one before is gone."""
        before = self.folder / "..data"
        old = before.resolve() if before.exists() else None
        version = self.folder / f"..version_{next(self._versions)}"
        version.mkdir()
        for key, value in held.items():
            (version / key).write_text(value)
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(before)
        if old is not None:
            shutil.rmtree(old)


class ScramKafka(LocalKafka):
    """A broker with a second listener for users with passwords; the first one, without, is the test's own."""

    @property
    def guarded_servers(self) -> str:
        """Where users log in."""
        return f"{ports.LOOPBACK}:{self._guarded}"

    def let_in(self, password: str) -> None:
        """Take this password of the user, and no other."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        (done,) = admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(USER, info, password.encode())]
        ).values()
        done.result(60)

    def _configure(self, instance):
        path = super()._configure(instance)
        self._guarded = free_port()
        broker, controller = self.bootstrap_servers, f"{ports.LOOPBACK}:{instance['controller_port']}"
        # The last line of a name counts.
        lines = {
            "listeners": f"BROKER://{broker},CONTROLLER://{controller},GUARDED://{self.guarded_servers}",
            "advertised.listeners": f"BROKER://{broker},GUARDED://{self.guarded_servers}",
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_PLAINTEXT",
            "sasl.enabled.mechanisms": "SCRAM-SHA-256",
            "connections.max.reauth.ms": str(REAUTHENTICATE_MS),
            "listener.name.guarded.scram-sha-256.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        }
        with path.open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in lines.items())
        return path


class Postgresql:
    """A PostgreSQL server in a folder, with one user and one database."""

    def __init__(self, folder: Path) -> None:
        self._bin = _postgresql()
        self._folder = folder
        self._port = free_port()
        # It refuses to run as root.
        self._as = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
        self._run(
            "initdb", "-D", str(folder / "data"), "-U", "owner", "--auth-local=trust", "--auth-host=scram-sha-256"
        )
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._bin / "postgres", "-D", str(folder / "data"), "-p", str(self._port)),
                    *("-c", f"unix_socket_directories={folder}", "-c", "fsync=off"),
                ],
                cwd=folder,
                stdout=log,
                stderr=log,
                **self._as,
            )
        until(self._lives, "PostgreSQL does not answer", 60)
        self._say(f"CREATE USER {USER}", "CREATE DATABASE lake")
        self._say(f"ALTER DATABASE lake OWNER TO {USER}")

    def uri(self, password: str) -> str:
        """The catalog's `uri` for a user with that password."""
        return f"postgresql+psycopg2://{USER}:{password}@127.0.0.1:{self._port}/lake"

    def let_in(self, password: str) -> None:
        """Take this password of the user, and no other; those who are connected are cut off."""
        self._say(f"ALTER USER {USER} PASSWORD '{password}'")
        self._say(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{USER}'")

    def takes(self, password: str) -> bool:
        """Whether it lets the user in with that password."""
        try:
            psycopg2.connect(self.uri(password).replace("+psycopg2", "")).close()
        except psycopg2.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(60)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._bin / program, *arguments],
            cwd=self._folder,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            **self._as,
        )
        assert done.returncode == 0, done.stderr

    def _owner(self):
        return psycopg2.connect(host=str(self._folder), port=self._port, user="owner", dbname="postgres")

    def _lives(self) -> bool:
        try:
            self._owner().close()
        except psycopg2.OperationalError:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            return False
        return True

    def _say(self, *statements: str) -> None:
        connection = self._owner()
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        finally:
            connection.close()


def _postgresql() -> Path:
    found = [Path(folder) for folder in (shutil.which("initdb") or "",) if folder]
    places = [each.parent for each in found] or sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not places:
        raise UnavailableError("no PostgreSQL server is installed (Debian's package postgresql)")
    return places[-1]


@contextmanager
def running_postgresql() -> Iterator[Postgresql]:
    """A server in a folder that its own user may enter, which a test's is not."""
    with tempfile.TemporaryDirectory(prefix="k2-postgresql-") as name:
        if os.getuid() == 0:
            shutil.chown(name, "postgres", "postgres")
        server = Postgresql(Path(name))
        try:
            yield server
        finally:
            server.stop()


class Store:
    """A MinIO server in a folder, with one bucket. Started again, it may have another password."""

    def __init__(self, folder: Path) -> None:
        self._program = charts.program("minio")
        self._folder, self._port = folder, free_port()
        self._process: subprocess.Popen | None = None
        self.endpoint = f"http://127.0.0.1:{self._port}"

    def start(self, password: str) -> None:
        """Start it; returns when it answers."""
        account = {"MINIO_ROOT_USER": "k2-lake", "MINIO_ROOT_PASSWORD": password, "MINIO_BROWSER": "off"}
        with (self._folder / "minio.log").open("ab") as output:
            self._process = subprocess.Popen(
                [
                    self._program,
                    "server",
                    "--quiet",
                    "--address",
                    f"127.0.0.1:{self._port}",
                    str(self._folder / "data"),
                ],
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder), **account},
                stdout=output,
                stderr=output,
            )
        until(self._lives, "MinIO does not answer", 60)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(90)

    def restart(self, password: str) -> None:
        """Start it with another password; those who are connected are cut off."""
        if self._process is not None:
            self.stop()
        self.start(password)

    def make_bucket(self, password: str) -> None:
        """Make the bucket `lake`."""
        self._files(password).create_dir("lake")

    def takes(self, password: str) -> bool:
        """Whether it lets the account in with that password."""
        try:
            self._files(password).get_file_info("lake/none")
        except OSError:
            return False
        return True

    def _files(self, password: str) -> S3FileSystem:
        return S3FileSystem(
            access_key="k2-lake", secret_key=password, endpoint_override=self.endpoint, allow_bucket_creation=True
        )

    def _lives(self) -> bool:
        try:
            return httpx.get(f"{self.endpoint}/minio/health/ready", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False
