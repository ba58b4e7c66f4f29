"""What people run beside K2 in a cluster, built from Go modules (tests/parts/modules) and put into images.

Nothing of it is part of the product. The first build takes half an hour on two cores; what is built stays in the cache
(K2_CACHE_DIR, in `parts`) until a go.mod changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from k2_local.services.artifacts import cache_dir
from k2_testing import charts, images
from k2_testing.controlplane import UnavailableError, find_go, go_build

MODULES = charts.ROOT / "tests" / "parts" / "modules"
PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator"
KEDA = "github.com/kedacore/keda/v2"
_DOCKERFILE = """FROM debian:bookworm-slim
COPY program {path}
USER 65534:65534
ENTRYPOINT ["{path}"]
"""


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: in an enum a bare `=` is a text."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


@dataclass(frozen=True, slots=True)
class GoPart:
    """A program: its module (a folder of tests/parts/modules), its package, and where its makers' image has it."""

    module: str
    package: str
    path: str


PARTS = {
    "prometheus": GoPart("prometheus", "github.com/prometheus/prometheus/cmd/prometheus", "/bin/prometheus"),
    "prometheus-operator": GoPart("prometheus-operator", f"{PROMETHEUS_OPERATOR}/cmd/operator", "/bin/operator"),
    "prometheus-config-reloader": GoPart(
        "prometheus-operator",
        f"{PROMETHEUS_OPERATOR}/cmd/prometheus-config-reloader",
        "/bin/prometheus-config-reloader",
    ),
    "keda-operator": GoPart("keda", f"{KEDA}/cmd/operator", "/keda"),
    "keda-adapter": GoPart("keda", f"{KEDA}/cmd/adapter", "/keda-adapter"),
    "prometheus-adapter": GoPart("prometheus-adapter", "sigs.k8s.io/prometheus-adapter/cmd/adapter", "/adapter"),
}


def program(name: str) -> Path:
    """A part's program, built once for each state of its go.mod.

    Raises:
        UnavailableError: there is no Go, or the modules cannot be fetched.
    """
    part = PARTS[name]
    source = MODULES / part.module
    said = b"\0".join([(source / "go.mod").read_bytes(), (source / "go.sum").read_bytes(), part.package.encode()])
    folder = cache_dir() / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    built = folder / f"{name}-{hashlib.sha256(said).hexdigest()[:16]}"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            go_build(source, part.package, built)
    return built


def image(name: str) -> str:
    """A part's image, built where the container engine has none of this program; its name."""
    built = program(name)
    tag = f"k2-parts/{name}:{built.name.rpartition('-')[2]}"
    found = subprocess.run(["docker", "image", "inspect", tag], capture_output=True, timeout=60, check=False)
    if found.returncode:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy2(built, f"{folder}/program")
            Path(folder, "Dockerfile").write_text(_DOCKERFILE.format(path=PARTS[name].path))
            images.build_image(tag, Path(folder))
    return tag


def prometheus_operator(namespace: str) -> Iterator[dict[str, Any]]:
    """The manifests that its makers publish (definitions, rights, Deployment), for a namespace and with the images made here."""
    bundle = _sources("prometheus-operator", PROMETHEUS_OPERATOR) / "bundle.yaml"
    for manifest in _read(bundle.read_text().replace("namespace: default", f"namespace: {namespace}")):
        if manifest["kind"] == "Deployment":
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            container["image"] = image("prometheus-operator")
            reloader = f"--prometheus-config-reloader={image('prometheus-config-reloader')}"
            container["args"] = [
                reloader if each.startswith("--prometheus-config-reloader") else each for each in container["args"]
            ]
            del container["resources"]["limits"]  # a fifth of a core is little on a machine that does everything
        yield manifest


def keda() -> Iterator[dict[str, Any]]:
    """The manifests that its makers publish, for their namespace `keda` and with the images made here; no admission webhook."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(_sources("keda", KEDA) / "config" / "default")],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    ours = {"keda-operator": image("keda-operator"), "keda-metrics-apiserver": image("keda-adapter")}
    for manifest in _read(done.stdout):
        name = manifest["metadata"]["name"]
        if name.startswith("keda-admission"):
            continue
        if manifest["kind"] == "Deployment":
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            container |= {"image": ours[name], "imagePullPolicy": "IfNotPresent"}
            container["resources"] = {"requests": {"cpu": "50m", "memory": "100Mi"}}
            if name == "keda-operator":
                container["args"].append("--enable-webhook-patching=false")
        yield manifest


def _read(text: str) -> Iterator[dict[str, Any]]:
    return (found for found in yaml.load_all(text, _Loader) if found)


def _sources(module: str, path: str) -> Path:
    """The files of a Go module, of the version that a go.mod of ours names."""
    done = subprocess.run(
        [find_go(), "mod", "download", "-json", path],
        cwd=MODULES / module,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise UnavailableError(f"the Go module {path} cannot be fetched: {done.stderr[-500:]}")
    return Path(json.loads(done.stdout)["Dir"])
