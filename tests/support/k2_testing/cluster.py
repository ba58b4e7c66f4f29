"""What the cluster tests speak to: a client of the API server, and the operator as a process under its own service account."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import kopf
import pytest
import yaml

from k2_operator.kube.access import connection

ROOT = Path(__file__).parents[3]
API = "apis/k2.dev/v1alpha1"
_PATHS = {
    "MarketFeed": (API, "marketfeeds"),
    "IcebergTable": (API, "icebergtables"),
    "Deployment": ("apis/apps/v1", "deployments"),
    "StatefulSet": ("apis/apps/v1", "statefulsets"),
    "Job": ("apis/batch/v1", "jobs"),
    "CronJob": ("apis/batch/v1", "cronjobs"),
    "HorizontalPodAutoscaler": ("apis/autoscaling/v2", "horizontalpodautoscalers"),
    "PodDisruptionBudget": ("apis/policy/v1", "poddisruptionbudgets"),
    "ScaledObject": ("apis/keda.sh/v1alpha1", "scaledobjects"),
    "ConfigMap": ("api/v1", "configmaps"),
    "Service": ("api/v1", "services"),
    "LimitRange": ("api/v1", "limitranges"),
    "Pod": ("api/v1", "pods"),
    "ResourceQuota": ("api/v1", "resourcequotas"),
    "Secret": ("api/v1", "secrets"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
    "Event": ("api/v1", "events"),
    "Namespace": ("api/v1", "namespaces"),
    "CustomResourceDefinition": ("apis/apiextensions.k8s.io/v1", "customresourcedefinitions"),
    "MutatingWebhookConfiguration": ("apis/admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations"),
    "Role": ("apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "ClusterRole": ("apis/rbac.authorization.k8s.io/v1", "clusterroles"),
    "ClusterRoleBinding": ("apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
}


QUICK = {"K2_OPERATOR_COLLECT_SECONDS": "1", "K2_OPERATOR_LOOK_SECONDS": "1"}
"""An operator that measures and looks every second, as it otherwise does two and four times a minute: nobody waits for that."""

_OUT_OF_BREATH = {429, 502, 503, 504}


class RefusedError(Exception):
    """The API server said no; the text is its message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def until(
    probe: Callable[[], object],
    what: str,
    seconds: float = 240.0,
    pause: float = 0.05,
    why: Callable[[], str] = lambda: "",
):
    """Ask until the answer is true, and once more when the time is over; returns it. `why` adds to the failure's message."""
    end = time.monotonic() + seconds
    while True:
        is_last = time.monotonic() > end
        found = probe()
        if found:
            return found
        if is_last:
            raise AssertionError(f"after {seconds:.0f} s: {what}; found {found!r}\n{why()}")
        time.sleep(pause)


class Cluster:
    """A client with the rights of a kubeconfig, and shorthands for tests."""

    def __init__(self, kubeconfig: Path) -> None:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("KUBECONFIG", str(kubeconfig))
            access = connection(kopf.OperatorSettings())
        self.server = access.server
        self.authority = access.ca_data or base64.b64encode(Path(str(access.ca_path)).read_bytes()).decode()
        self._http = httpx.Client(
            base_url=self.server,
            verify=access.as_ssl_context(),
            headers=access.as_http_headers(),
            timeout=30,
            trust_env=False,
        )

    def path(self, kind: str, namespace: str | None = None, name: str = "", sub: str = "") -> str:
        prefix, plural = _PATHS[kind]
        parts = [prefix, *(["namespaces", namespace] if namespace else []), plural, *([name] if name else [])]
        return "/" + "/".join(parts + ([sub] if sub else []))

    def request(self, method: str, path: str, **options):
        """Any request; the answer's JSON, or `RefusedError`. A server that is out of breath is asked again for a minute."""
        end = time.monotonic() + 60
        response = self._http.request(method, path, **options)
        # What makes something anew may have made it: only that is not repeated.
        while response.status_code in _OUT_OF_BREATH and method != "POST" and time.monotonic() < end:
            time.sleep(1)
            response = self._http.request(method, path, **options)
        if response.status_code >= 400:
            try:
                message = response.json().get("message", response.text)
            except ValueError:
                message = response.text
            raise RefusedError(response.status_code, message)
        return response.json()

    def get(self, kind: str, name: str, namespace: str | None = None):
        """An object, or None."""
        try:
            return self.request("GET", self.path(kind, namespace, name))
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: str, namespace: str | None = None, selector: str = "") -> list:
        return self.request("GET", self.path(kind, namespace), params={"labelSelector": selector})["items"]

    def apply(self, manifest: dict, *, dry_run: bool = False, sub: str = ""):
        """Server-side apply by a person, with strict validation, as kubectl does."""
        metadata = manifest["metadata"]
        options = {"fieldManager": "person", "force": "true", "fieldValidation": "Strict"}
        return self.request(
            "PATCH",
            self.path(manifest["kind"], metadata.get("namespace"), metadata["name"], sub),
            params=options | ({"dryRun": "All"} if dry_run else {}),
            content=yaml.safe_dump(manifest),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )

    def create(self, manifest: dict, *, dry_run: bool = False):
        params = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        namespace = manifest["metadata"].get("namespace")
        text = json.dumps(manifest, default=str)  # dates, which YAML has read
        path, headers = self.path(manifest["kind"], namespace), {"Content-Type": "application/json"}
        return self.request("POST", path, params=params, content=text, headers=headers)

    def patch(self, kind: str, namespace: str | None, name: str, change: dict, sub: str = ""):
        """A JSON merge patch."""
        path = self.path(kind, namespace, name, sub)
        return self.request("PATCH", path, json=change, headers={"Content-Type": "application/merge-patch+json"})

    def delete(self, kind: str, namespace: str | None, name: str) -> None:
        try:
            self.request("DELETE", self.path(kind, namespace, name), params={"propagationPolicy": "Background"})
        except RefusedError as error:
            if error.status != 404:
                raise

    def condition(self, kind: str, namespace: str, name: str, which: str = "Ready"):
        """(status, reason, message) of a condition, or None."""
        obj = self.get(kind, name, namespace) or {}
        for each in obj.get("status", {}).get("conditions", ()):
            if each["type"] == which:
                return each["status"], each["reason"], each["message"]
        return None

    def until_condition(self, kind, namespace, name, reason, which="Ready", seconds=240.0):
        """Wait for a reason; returns (status, reason, message)."""

        # Where there are nodes, the scheduler says of pods without one that none takes them.
        reasons = {reason, "Unschedulable"} if reason == "SinkNotAvailable" else {reason}

        def probe():
            found = self.condition(kind, namespace, name, which)
            return found if found and found[1] in reasons else None

        try:
            return until(probe, f"{kind} {name}: no {which}/{reason}", seconds)
        except AssertionError as error:
            found = (self.get(kind, name, namespace) or {}).get("status")
            raise AssertionError(f"{error}; status {found}") from None

    def table(self, kind: str, namespace: str):
        """What `kubectl get` shows: a dict per row, by column."""
        answer = self._http.get(
            self.path(kind, namespace), headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        ).json()
        names = [column["name"] for column in answer["columnDefinitions"]]
        return [dict(zip(names, row["cells"], strict=True)) for row in answer["rows"]]

    def run_pods(self, namespace: str, name: str, phase: str = "Running") -> None:
        """Play the kubelet of pods that no node takes: say that a workload's pods run (or `Succeeded`)."""
        until(lambda: self.run_pods_there_are(namespace, name, phase), f"no pods of {name}")

    def run_pods_there_are(self, namespace: str, name: str, phase: str = "Running") -> int:
        """The same of those that there are at this moment; how many."""
        pods = self.list("Pod", namespace, f"app.kubernetes.io/instance={name}")
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        ready = {"type": "Ready", "status": "True" if phase == "Running" else "False", "lastTransitionTime": now}
        for pod in pods:
            others = [each for each in pod["status"].get("conditions", ()) if each["type"] != "Ready"]
            status = {"phase": phase, "conditions": [*others, ready], "startTime": now}
            try:
                self.patch("Pod", namespace, pod["metadata"]["name"], {"status": status}, sub="status")
            except RefusedError as error:
                if error.status != 404:  # it has gone since: it needs no kubelet
                    raise
        return len(pods)


def with_definitions(kubeconfig: Path) -> Cluster:
    """A cluster with K2's definitions in it, served, and with no feed yet."""
    cluster = Cluster(kubeconfig)
    for each in crds():
        cluster.apply(each)
    for kind in ("MarketFeed", "IcebergTable"):
        until(lambda kind=kind: _served(cluster, kind), f"{kind} is not served")
    feeds = [f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in cluster.list("MarketFeed")]
    assert not feeds, f"the tests' operator would take over what is at work in this cluster: {feeds}"
    return cluster


def _served(cluster: Cluster, kind: str) -> bool:
    """Whether its objects can be listed: an established definition may still be "(re)initializing" its storage."""
    try:
        cluster.list(kind)
    except RefusedError:
        return False
    return True


def crds() -> list[dict]:
    """The chart's definitions, without Helm."""
    folder = ROOT / "charts" / "k2" / "templates" / "crds"
    texts = (path.read_text() for path in sorted(folder.glob("*.yaml")))
    return [yaml.safe_load("\n".join(line for line in text.splitlines() if "{{" not in line)) for text in texts]


def operator_rules(*templates: str) -> list[dict]:
    """The rules that the chart gives the operator, by names of its templates: the tests run under these and no others."""
    text = (ROOT / "charts" / "k2" / "templates" / "_rules.tpl").read_text()
    rules = []
    for name in templates:
        found = re.search(rf'\{{\{{-? define "k2\.{name}" -?\}}\}}(.*?)\{{\{{-? end -?\}}\}}', text, re.DOTALL)
        assert found is not None, name
        rules += yaml.safe_load(found.group(1))
    return rules


def grant(
    cluster: Cluster,
    namespace: str,
    secrets: list[str],
    watched: list[str] | None = None,
    templates: Sequence[str] = ("rules",),
) -> None:
    """The operator's service account in `namespace`, with a ClusterRole (or a Role in each of `watched`)."""
    rules = operator_rules(*templates)
    if secrets:
        rules.append({"apiGroups": [""], "resources": ["secrets"], "resourceNames": secrets, "verbs": ["get"]})
    api = "rbac.authorization.k8s.io/v1"
    name = f"k2-operator-{namespace}"
    subject = {"kind": "ServiceAccount", "name": "k2-operator", "namespace": namespace}
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "k2-operator", "namespace": namespace},
        }
    )
    for where in watched if watched is not None else [None]:
        kind = "Role" if where else "ClusterRole"
        metadata = {"name": name} | ({"namespace": where} if where else {})
        cluster.apply({"apiVersion": api, "kind": kind, "metadata": metadata, "rules": rules})
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
        cluster.apply(
            {
                "apiVersion": api,
                "kind": f"{kind}Binding",
                "metadata": metadata,
                "roleRef": reference,
                "subjects": [subject],
            }
        )


class Operator:
    """`python -m k2_operator` (or another program) under its service account. `log` has its output."""

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        namespace: str,
        platform: dict,
        program: Sequence[str] = ("-m", "k2_operator"),
        **env: str,
    ) -> None:
        self._cluster, self._folder, self._namespace = cluster, folder, namespace
        self._program = program
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "platform.yaml").write_text(yaml.safe_dump(platform))
        self.log = folder / "operator.log"
        self._env = env
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it; returns when it is ready."""
        from k2_testing.controlplane import free_port

        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._write_kubeconfig()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, *self._program],
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(self._folder),
                    "KUBECONFIG": str(self._folder / "kubeconfig"),
                    "K2_PLATFORM_FILE": str(self._folder / "platform.yaml"),
                    "K2_DATA_DIR": str(self._folder),
                    "K2_METRICS_PORT": str(port),
                    "K2_LOG_FORMAT": "json",
                    "PYTHONPATH": os.pathsep.join(sys.path),  # the code that is tested
                    **self._env,
                },
                stdout=output,
                stderr=output,
            )
        until(self._ready, "the operator is not ready", 240, why=self.tail)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self._process.terminate()
        return self._process.wait(120)

    def kill(self) -> None:
        """SIGKILL: as when a node dies."""
        self._process.kill()
        self._process.wait(60)

    @property
    def pid(self) -> int:
        return self._process.pid

    def metrics(self) -> dict[str, float]:
        """Its metrics by name with labels."""
        text = httpx.get(f"{self.url}/metrics", trust_env=False, timeout=60).text
        lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def watches(self, *kinds: str) -> None:
        """From here on nothing but a watch tells it what ends: each has brought something, and the next resync is ten minutes off."""

        def begun() -> bool:
            found = self.metrics()
            brought = (found.get(f'k2_operator_watch_events_total{{kind="{kind}"}}') for kind in kinds)
            return bool(found.get("k2_operator_last_resync_timestamp_seconds")) and all(brought)

        until(begun, f"{' and '.join(kinds)} are not watched")

    def said_since(self, place: int) -> str:
        """What it has written since its log had that many bytes."""
        return self.log.read_bytes()[place:].decode()

    def tail(self) -> str:
        return self.log.read_text()[-3000:] if self.log.exists() else ""

    def _ready(self) -> bool:
        assert self._process.poll() is None, f"the operator has ended: {self.tail()}"
        try:
            return httpx.get(f"{self.url}/ready", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def _write_kubeconfig(self) -> None:
        path = self._cluster.path("ServiceAccount", self._namespace, "k2-operator", "token")
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 7200},
        }
        token = self._cluster.request("POST", path, json=request)["status"]["token"]
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "it",
                    "cluster": {
                        "server": self._cluster.server,
                        "certificate-authority-data": self._cluster.authority,
                    },
                }
            ],
            "users": [{"name": "operator", "user": {"token": token}}],
            "contexts": [
                {"name": "it", "context": {"cluster": "it", "user": "operator", "namespace": self._namespace}}
            ],
            "current-context": "it",
        }
        path = self._folder / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))


@contextmanager
def cluster_wide_operator(cluster: Cluster, folder: Path, platform: dict, **env: str) -> Generator[Operator]:
    """The operator at work in the whole cluster, under the chart's rules, in a namespace of its own.

    Args:
        cluster: where it works.
        folder: for its settings and its log.
        platform: its platform.yaml.
        env: further variables.
    """
    namespace = "k2-system"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    grant(cluster, namespace, ["k2-registry"])
    running = Operator(cluster, folder, namespace, platform, K2_OPERATOR_CLUSTER_WIDE="true", **env)
    running.start()
    yield running
    assert running.stop() == 0
    for kind in ("ClusterRoleBinding", "ClusterRole"):
        cluster.delete(kind, None, f"k2-operator-{namespace}")
