"""Kind clusters: made by pytest-kind from the project's kind-config.yaml, or the one that KUBECONFIG leads to."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import yaml
from pytest_kind.cluster import KindCluster

from k2_testing import charts
from k2_testing.controlplane import UnavailableError

ROOT = charts.ROOT
NODE_IMAGE = f"kindest/node:v{charts.KUBERNETES}"
NAMESPACE = "k2-test"
GIVEN = os.environ.get("KUBECONFIG")
"""The kubeconfig of a cluster to run on, instead of those that the tests make."""

# Ports of the node, mapped to this machine by kind-config.yaml.
QUERY, INGRESS = 30800, 30080
# Of the API server, when its machine or its etcd stands still for a while.
_OUT_OF_BREATH = (
    "etcdserver: request timed out",
    "etcdserver: leader changed",
    "TLS handshake timeout",
    "Too Many Requests",
)


class Kind:
    """One cluster of kind, and what the tests do there: in one namespace, with kubectl, helm and requests from outside."""

    def __init__(self, name: str, kubeconfig: Path, folder: Path) -> None:
        self.name = name
        self.kubeconfig = kubeconfig
        self._folder = folder
        # The stated image where the engine has it, else the one that this kind brings.
        has_image = _run("docker", "image", "inspect", NODE_IMAGE, check=False).returncode == 0
        with contextlib.chdir(folder):  # it makes a folder in the current one
            self._cluster = KindCluster(
                name,
                kubeconfig,
                NODE_IMAGE if has_image else None,
                kind_path=_tool("kind"),
                kubectl_path=_tool("kubectl"),
            )

    @classmethod
    def given(cls, kubeconfig: Path, folder: Path) -> Kind:
        """The cluster of a kubeconfig's current context.

        Raises:
            UnavailableError: it is none of kind's on this machine.
        """
        _require_tools()
        context = _run("kubectl", "--kubeconfig", str(kubeconfig), "config", "current-context").stdout.strip()
        name = context.removeprefix("kind-")
        if name not in _run("kind", "get", "clusters").stdout.splitlines():
            raise UnavailableError(
                f"KUBECONFIG's context {context} is no kind cluster: images cannot be loaded into it"
            )
        return cls(name, kubeconfig, folder)

    @classmethod
    @contextlib.contextmanager
    def made(cls, folder: Path, name: str | None = None) -> Generator[Kind]:
        """A cluster as long as it is needed, of that name or of one that no other process has.

        Raises:
            UnavailableError: there is no engine, no kind, or no image of a node.
        """
        _require_tools()
        cluster = cls(name or f"k2-test-{os.getpid()}", folder / "kubeconfig", folder)
        try:
            cluster._create()
            yield cluster
        finally:
            cluster._cluster.delete()

    def _create(self) -> None:
        # The ports of kind-config.yaml are moved to free ones: a person's own cluster may have them.
        config = yaml.safe_load((ROOT / "kind-config.yaml").read_text())
        for mapping in config["nodes"][0]["extraPortMappings"]:
            mapping["hostPort"] = _free_port()
        config["name"] = self.name
        file = self._folder / "kind-config.yaml"
        file.write_text(yaml.safe_dump(config))
        try:
            self._cluster.create(file)
        except subprocess.CalledProcessError as error:
            if self._cluster.image is None:
                raise UnavailableError(
                    f"no {NODE_IMAGE} in the engine, and kind cannot bring another: {error}"
                ) from None
            raise
        _run(
            "kubectl",
            "--kubeconfig",
            str(self.kubeconfig),
            "wait",
            "--for=condition=Ready",
            "node",
            "--all",
            "--timeout=600s",
            timeout=660,
        )

    def load(self, *images: str) -> None:
        """Bring images of the engine to the node."""
        for image in images:
            self._cluster.load_docker_image(image)

    def kubectl(self, *arguments: str, check: bool = True, timeout: float = 120) -> str:
        """kubectl in the namespace; what it prints. A server that is out of breath is asked again for a minute."""
        command = ("kubectl", "--kubeconfig", str(self.kubeconfig), "-n", NAMESPACE, *arguments)
        end = time.monotonic() + 60
        while True:
            done = _run(*command, check=False, timeout=timeout)
            if not (done.returncode and any(each in done.stderr for each in _OUT_OF_BREATH) and time.monotonic() < end):
                break
            time.sleep(1)
        return _succeeded(done, check=check).stdout

    def helm(self, *arguments: str, check: bool = True, timeout: float = 400) -> str:
        """Helm in the namespace; what it prints."""
        flags = ("--kubeconfig", str(self.kubeconfig), "-n", NAMESPACE)
        return _run(str(charts.program("helm")), *flags, *arguments, check=check, timeout=timeout).stdout

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Server-side apply: some definitions are longer than an annotation may be."""
        file = self._folder / "applied.yaml"
        file.write_text(yaml.safe_dump_all(manifests))
        _run("kubectl", "--kubeconfig", str(self.kubeconfig), "apply", "--server-side", "-f", str(file), timeout=300)

    def wait(self, what: str, condition: str, namespace: str = NAMESPACE) -> None:
        """Wait for a condition, ten minutes at most."""
        self.kubectl("wait", what, f"--for=condition={condition}", "--timeout=10m", "-n", namespace, timeout=660)

    def get(self, *what: str) -> dict[str, Any]:
        """An object or a list of them."""
        return json.loads(self.kubectl("get", *what, "-o", "json"))

    def names(self, kind: str, selector: str = "") -> list[str]:
        """Names of the objects of a kind."""
        chosen = ("-l", selector) if selector else ()
        return [item["metadata"]["name"] for item in self.get(kind, *chosen)["items"]]

    def pods(self, selector: str) -> list[str]:
        """Names of the pods that are not on their way out."""
        found = self.get("pods", "-l", selector)["items"]
        return sorted(pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"])

    def ask(self, path: str, key: str | None = None, port: int = QUERY, host: str | None = None) -> tuple[int, Any]:
        """GET by way of a port of the node: status and body (0 when nothing answers)."""
        headers = ({"X-API-Key": key} if key else {}) | ({"Host": host} if host else {})
        request = urllib.request.Request(f"http://{self._address(port)}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except (OSError, http.client.HTTPException, ValueError):
            return 0, None

    def _address(self, port: int) -> str:
        mapped = _run("docker", "port", f"{self.name}-control-plane", f"{port}/tcp", check=False).stdout.split()
        assert mapped, f"port {port} of the node is not mapped: create the cluster with kind-config.yaml"
        return mapped[0]

    def api_key(self) -> str:
        """The key that the chart made."""
        return base64.b64decode(self.get("secret", "k2-api-key")["data"]["api-key"]).decode()

    def what_is_wrong(self) -> str:
        """Pods, conditions and the operator's last lines, for a failure's message."""
        warnings = ("events", "--field-selector=type=Warning", "--sort-by=.lastTimestamp")
        parts = [
            self.kubectl("get", "pods,marketfeeds,icebergtables", check=False),
            self.kubectl("logs", "deploy/k2-operator", "--tail=20", check=False),
            self.kubectl("logs", "deploy/k2-operator", "--tail=20", "--previous", check=False),
            self.kubectl("get", *warnings, check=False)[-3000:],
        ]
        return "\n".join(parts)

    def empty(self) -> None:
        """Remove what was installed in the namespace, and it."""
        for release in ("k2", "parts"):
            self.helm("uninstall", release, "--ignore-not-found", check=False)
        for name in self.kubectl("get", "marketfeeds,icebergtables", "-o", "name", check=False).split():
            self.kubectl("patch", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}', check=False)
        self.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=600s", timeout=660)


def _require_tools() -> None:
    for name in ("docker", "kind", "kubectl"):
        _tool(name)
    answer = _run("docker", "info", check=False)
    if answer.returncode:
        reason = answer.stderr.strip().splitlines()[-1:]
        raise UnavailableError(f"the container engine does not answer: {' '.join(reason)}")


def _tool(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise UnavailableError(f"no `{name}` on PATH: a cluster with pods needs a container engine, kind and kubectl")
    return Path(found)


def _run(*command: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    return _succeeded(done, check=check)


def _succeeded(done: subprocess.CompletedProcess[str], *, check: bool) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0 or not check, f"{' '.join(done.args)}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
