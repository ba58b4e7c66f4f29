"""Where the operator's credentials come from when it runs outside a cluster."""

from __future__ import annotations

import json
import sys

import kopf
import pytest
import yaml

from k2.model.errors import UserError
from k2_operator.kube.access import connection


def document(user):
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "ticks"}}],
        "current-context": "x",
    }


def kubeconfig(tmp_path, monkeypatch, user):
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document(user)))
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))


def test_a_token_in_the_kubeconfig_is_used(tmp_path, monkeypatch):
    kubeconfig(tmp_path, monkeypatch, {"token": "abc"})
    found = connection(kopf.OperatorSettings())
    assert (found.token, found.default_namespace) == ("abc", "ticks")


def test_a_program_that_makes_the_token_is_run(tmp_path, monkeypatch):
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "made"},
    }
    program = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-c", f"print({json.dumps(json.dumps(credential))})"],
        "interactiveMode": "Never",
    }
    kubeconfig(tmp_path, monkeypatch, {"exec": program})
    found = connection(kopf.OperatorSettings())
    assert (found.server, found.token, found.default_namespace) == ("https://127.0.0.1:6443", "made", "ticks")


def test_without_any_the_error_says_what_is_expected(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"a pod's service account, or KUBECONFIG of a cluster"):
        connection(kopf.OperatorSettings())


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"KUBECONFIG names a file that is not there: found '.*none'"):
        connection(kopf.OperatorSettings())


def test_in_its_image_the_operator_works_without_the_kubernetes_client(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "a-program"}}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document(user)))
    monkeypatch.setenv("KUBECONFIG", str(path))
    found = connection(kopf.OperatorSettings())
    assert (found.server, found.token) == ("https://127.0.0.1:6443", None)
    (said,) = caplog.messages
    assert said.startswith("access.anonymous server='https://127.0.0.1:6443'")
    assert "pip install 'k2-market-data[kubeconfig]'" in said
