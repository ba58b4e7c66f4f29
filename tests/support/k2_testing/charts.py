"""Helm, kubeconform, promtool and Strimzi's resource definitions for the charts' tests: from PATH, or built once by Go into K2_CACHE_DIR.

Each is asked for by the version that the tests were written with. Whoever cannot get one gets a reason instead.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from k2_local.services import artifacts
from k2_testing.controlplane import UnavailableError, find_go

ROOT = Path(__file__).parents[3]
CHARTS = ROOT / "charts"
KUBERNETES = "1.34.4"

PROGRAMS = {
    "helm": "helm.sh/helm/v3/cmd/helm@v3.19.0",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0",
    "minio": "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c",
    "promtool": "github.com/prometheus/prometheus/cmd/promtool@v0.305.0",
}
MODULES = {
    "kubernetes": f"k8s.io/kubernetes@v{KUBERNETES}",
    "prometheus-operator": "github.com/prometheus-operator/prometheus-operator@v0.85.0",
    "gateway-api": "sigs.k8s.io/gateway-api@v1.3.0",
}
STRIMZI = "1.2.0"
STRIMZI_KINDS = {
    "kafka.Kafka": "Kafka",
    "nodepool.KafkaNodePool": "KafkaNodePool",
    "user.KafkaUser": "KafkaUser",
    "topic.KafkaTopic": "KafkaTopic",
}


def program(name: str) -> Path:
    """A program: from PATH, else from the cache, else built there from its Go module."""
    found = shutil.which(name)
    if found:
        return Path(found)
    source = PROGRAMS[name]
    kept = artifacts.cache_dir() / "go" / source.replace("/", "-") / name
    with _alone(f"go-{name}"):
        if kept.exists():
            return kept
        package, version = source.split("@")
        with tempfile.TemporaryDirectory() as folder:
            # A module of our own, because `go install` refuses a module with replace lines (promtool's).
            _go(folder, "mod", "init", "k2.test/tool")
            _go(folder, "get", f"{package}@{version}")
            _go(folder, "build", "-trimpath", "-o", f"built/{name}", package)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(f"{folder}/built/{name}", kept)
    return kept


def module(name: str) -> Path:
    """The files of a Go module, as Go's own cache holds them."""
    with tempfile.TemporaryDirectory() as folder:
        return Path(json.loads(_go(folder, "mod", "download", "-json", MODULES[name]))["Dir"])


@contextmanager
def _alone(name: str) -> Generator[None]:
    """One test process at a time fills the cache."""
    root = artifacts.cache_dir()
    root.mkdir(parents=True, exist_ok=True)
    with (root / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _go(folder: str, *arguments: str) -> str:
    try:
        go = find_go()
    except UnavailableError as error:
        pytest.skip(f"{error}; and the programs that the charts are tested with are not there either")
    env = os.environ | {"GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}
    done = subprocess.run(
        [go, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=1500, check=False
    )
    if done.returncode:
        pytest.skip(f"`go {' '.join(arguments)}` failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def strimzi_definitions() -> list[dict[str, Any]]:
    """Strimzi's CustomResourceDefinitions, generated from its Maven artifacts."""
    folder = artifacts.cache_dir() / f"strimzi-crds-{STRIMZI}"
    with _alone(folder.name):
        if not folder.is_dir():
            _generate_strimzi(folder)
    return [yaml.safe_load(file.read_text()) for file in sorted(folder.glob("*.yaml"))]


def _generate_strimzi(folder: Path) -> None:
    import jgo

    coordinates = f"io.strimzi:crd-generator:{STRIMZI}+io.strimzi:api:{STRIMZI}"
    try:
        built = jgo.build(coordinates, cache_dir=artifacts.cache_dir() / "jgo")
    except Exception as error:  # noqa: BLE001 - jgo and its HTTP client raise whatever they like
        pytest.skip(f"Strimzi's generator of resource definitions cannot be fetched: {error}")
    jars = [str(jar) for part in ("jars", "modules") for jar in (built.path / part).glob("*.jar")]
    draft = Path(tempfile.mkdtemp(dir=folder.parent))
    command = [str(artifacts.java()), "-cp", ":".join(jars), "io.strimzi.crdgenerator.CrdGenerator", "--yaml"]
    command += ["--target-kube", "1.27+", "--crd-api-version", "v1"]
    command += [f"io.strimzi.api.kafka.model.{kind}={draft / name}.yaml" for kind, name in STRIMZI_KINDS.items()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    draft.rename(folder)


def render(
    helm: Path, chart: str, *arguments: str, release: str = "k2", namespace: str = "markets"
) -> list[dict[str, Any]]:
    """The manifests of a chart in charts/, hooks included."""
    return [
        document
        for document in yaml.safe_load_all(template(helm, chart, *arguments, release=release, namespace=namespace))
        if document
    ]


def template(helm: Path, chart: str, *arguments: str, release: str = "k2", namespace: str = "markets") -> str:
    """What `helm template` prints; a failure's text is the assertion's."""
    done = run_template(helm, chart, *arguments, release=release, namespace=namespace)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_template(
    helm: Path, chart: str, *arguments: str, release: str = "k2", namespace: str = "markets"
) -> subprocess.CompletedProcess[str]:
    """`helm template`, whatever comes of it. A helm that was built from its module believes in Kubernetes 1.20, so it is told."""
    command = [str(helm), "template", release, str(CHARTS / chart), "-n", namespace, "--kube-version", KUBERNETES]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)


def kind(manifests: Iterable[dict[str, Any]], kind: str, name: str | None = None) -> list[dict[str, Any]]:
    """Those of a kind, and of a name."""
    return [m for m in manifests if m["kind"] == kind and name in (None, m["metadata"]["name"])]


def one(manifests: Iterable[dict[str, Any]], kind_: str, name: str | None = None) -> dict[str, Any]:
    """The one of a kind."""
    found = kind(manifests, kind_, name)
    assert len(found) == 1, f"{len(found)} {kind_} {name or ''}"
    return found[0]


def decoded(secret: dict[str, Any]) -> dict[str, str]:
    """The values of a Secret."""
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
