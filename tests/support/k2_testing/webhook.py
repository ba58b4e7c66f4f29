"""A mutating webhook on loopback, as injectors of sidecars are: it adds a container to each Deployment that it is asked about."""

from __future__ import annotations

import base64
import ipaddress
import json
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SIDECAR = {"name": "injected", "image": "injected:1"}


class _Injector(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        containers = asked["object"]["spec"]["template"]["spec"]["containers"]
        answer = {"uid": asked["uid"], "allowed": True}
        if SIDECAR["name"] not in {each["name"] for each in containers}:
            patch = [{"op": "add", "path": "/spec/template/spec/containers/-", "value": SIDECAR}]
            answer |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
        body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: the API server's log has it."""


def _certificate(folder: Path) -> tuple[Path, bytes]:
    """A file with a key and a certificate of 127.0.0.1 for a day; and the certificate, which vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "injector")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "injector.pem"
    file.touch(mode=0o600)
    file.write_bytes(private + public)
    return file, public


@contextmanager
def injector(folder: Path, namespace: str) -> Generator[dict]:
    """The configuration to apply, for the Deployments of a namespace, as long as the webhook answers."""
    file, authority = _certificate(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Injector)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    at = f"https://127.0.0.1:{server.server_address[1]}/inject"
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}
    hook = {
        "name": "injector.k2.test",
        "clientConfig": {"url": at, "caBundle": base64.b64encode(authority).decode()},
        "rules": [rule | {"operations": ["CREATE", "UPDATE"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail",
    }
    try:
        yield {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": f"injector-{namespace}"},
            "webhooks": [hook],
        }
    finally:
        server.shutdown()
        server.server_close()
