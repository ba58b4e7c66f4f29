"""`k2 doctor --pre`: whether a cluster has what an installation of the chart needs, and whether its pods reach what the values name.

The cluster is asked by kubeconfig, with the rights of whoever installs. What only a pod can tell (Kafka, registry, catalog, store)
is examined by a Job of one pod, which is gone at the end.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from k2 import __version__
from k2.doctor.checks import Check, Diagnosis, DoubtfulError, Group, SkippedError, Standing, WrongError
from k2.model.errors import UserError, WorldError
from k2.model.platform import Platform
from k2_operator.build import environment, pod
from k2_operator.spec import labels
from k2_operator.spec.resources import Resources

OLDEST = (1, 29)
"""The first Kubernetes whose API server checks MarketFeeds by itself (CEL, stable)."""

JOB_SECONDS = 300.0
NAME = "k2-doctor"
_REQUEST_SECONDS = 4.0
_CHECK_SECONDS = 20.0
"""A check makes up to eight requests."""
_NEEDED = (
    ("create", "apps", "deployments"),
    ("create", "", "services"),
    ("create", "", "configmaps"),
    ("create", "", "secrets"),
    ("create", "", "serviceaccounts"),
    ("create", "batch", "jobs"),
    ("create", "rbac.authorization.k8s.io", "roles"),
    ("create", "rbac.authorization.k8s.io", "rolebindings"),
)


@dataclass(frozen=True, slots=True)
class Values:
    """What of the chart's values says where things are.

    `document` is the file as it was read; empty: none was given.
    """

    document: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path | None) -> Values:
        """Read a values file.

        Raises:
            UserError: it cannot be read, or is no mapping.
        """
        if path is None:
            return cls({})
        try:
            found: Any = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise UserError(f"{path} cannot be read", found=str(error), expected="values of the chart") from error
        if not isinstance(found, dict):
            raise UserError(f"{path} holds no values", found=type(found).__name__, expected="a mapping")
        return cls(found)

    @property
    def platform(self) -> Platform | None:
        """`platform` with the image of the workloads; None where it was not given.

        Raises:
            UserError: it is wrong; the field is named.
        """
        if "platform" not in self.document:
            return None
        image = self.document.get("images", {}).get("workload", {})
        name = f"{image.get('repository', 'k2-workloads')}:{image.get('tag') or __version__}"
        policy = self.document.get("images", {}).get("pullPolicy", "IfNotPresent")
        images = {"workload": name, "pullPolicy": policy}
        return Platform.checked({**self.document["platform"], "images": images}, "The values of platform are wrong at")


@dataclass(frozen=True, slots=True)
class _Cluster:
    namespace: str
    values: Values

    def checks(self) -> list[Check]:
        """In the order in which they are met."""
        behind = ["kube-reachable"]
        return [
            Check(
                "kube-reachable",
                self.reached,
                remedy="Set KUBECONFIG, choose a context (kubectl config use-context), and see that its API server answers.",
            ),
            Check("kube-version", self.version, behind, "Upgrade the cluster."),
            Check(
                "kube-permissions",
                self.permissions,
                behind,
                "Have whoever runs the cluster bind a role with these rights to you, or install for you.",
            ),
            Check(
                "kube-definitions",
                self.definitions,
                behind,
                "Install the chart once as somebody who may create CustomResourceDefinitions (crds.install), or have them applied.",
            ),
            Check(
                "kube-companions",
                self.companions,
                behind,
                "Install Strimzi, KEDA or the Prometheus operator first, or choose what does without (docs/kubernetes.md).",
            ),
            Check(
                "kube-secrets",
                self.secrets,
                behind,
                f"Create them in namespace {self.namespace} (and in each of watchNamespaces): K2 copies no Secrets.",
            ),
            Check(
                "kube-storage-class",
                self.storage_class,
                behind,
                "Mark one as default, or set storage.className where a chart asks for claims.",
            ),
        ]

    def reached(self) -> str:
        try:
            # Its own default is what the variable was when the library was imported.
            config.load_kube_config(config_file=os.environ.get("KUBECONFIG"))
        except ConfigException as error:
            raise WrongError(f"no kubeconfig: {error}") from error
        found = _asked(client.VersionApi().get_code)
        return f"Kubernetes {found.git_version} at {client.Configuration.get_default_copy().host}"

    def version(self) -> str:
        found = _asked(client.VersionApi().get_code)
        number = (int(found.major), int("".join(each for each in found.minor if each.isdigit())))
        if number < OLDEST:
            raise WrongError(f"{found.git_version}, expected {OLDEST[0]}.{OLDEST[1]} or newer")
        return str(found.git_version)

    def permissions(self) -> str:
        lacking = [
            f"{verb} {resource}{'.' if group else ''}{group}"
            for verb, group, resource in _NEEDED
            if not self._may(verb, group, resource)
        ]
        if lacking:
            raise WrongError(f"you may not {', '.join(lacking)} in namespace {self.namespace}")
        return f"you may install into namespace {self.namespace}"

    def definitions(self) -> str:
        names = {"marketfeeds.k2.dev", "icebergtables.k2.dev"}
        there = {name for name in names if self._definition(name)}
        if there == names:
            return "MarketFeed and IcebergTable are there"
        if not self._may("create", "apiextensions.k8s.io", "customresourcedefinitions", namespace=""):
            raise WrongError(f"{', '.join(sorted(names - there))} are not there, and you may not create them")
        return "the chart will bring them"

    def companions(self) -> str:
        platform, needed = self.values.platform, dict[str, str]()
        if platform is not None and platform.kafka.topics == "strimzi":
            needed["kafkatopics.kafka.strimzi.io"] = "platform.kafka.topics: strimzi"
        if platform is not None and platform.autoscaling.kind == "keda":
            needed["scaledobjects.keda.sh"] = "platform.autoscaling.kind: keda"
        monitoring = self.values.document.get("monitoring", {})
        if monitoring.get("serviceMonitors", {}).get("enabled"):
            needed["servicemonitors.monitoring.coreos.com"] = "monitoring.serviceMonitors.enabled"
        if monitoring.get("rules", {}).get("enabled"):
            needed["prometheusrules.monitoring.coreos.com"] = "monitoring.rules.enabled"
        if not needed:
            raise SkippedError("the values ask for none")
        if lacking := [f"{name} ({why})" for name, why in needed.items() if not self._definition(name)]:
            raise WrongError(f"the cluster does not have {', '.join(lacking)}")
        return ", ".join(needed)

    def secrets(self) -> str:
        platform = self.values.platform
        wanted = {} if platform is None else _secrets(platform)
        if not wanted:
            raise SkippedError("the values name none")
        core, lacking = client.CoreV1Api(), list[str]()
        for name, keys in wanted.items():
            try:
                found = _asked(core.read_namespaced_secret, name, self.namespace)
            except _AbsentError:
                lacking.append(f"Secret {name}")
                continue
            lacking += [f"key {key} of Secret {name}" for key in sorted(keys - (found.data or {}).keys())]
        if lacking:
            raise WrongError(f"there is no {', no '.join(lacking)} in namespace {self.namespace}")
        return ", ".join(wanted)

    def storage_class(self) -> str:
        classes = _asked(client.StorageV1Api().list_storage_class).items
        mark = "storageclass.kubernetes.io/is-default-class"
        if default := [each.metadata.name for each in classes if (each.metadata.annotations or {}).get(mark) == "true"]:
            return f"default: {', '.join(default)}"
        raise DoubtfulError(f"none of {len(classes)} storage classes is the default")

    def _may(self, verb: str, group: str, resource: str, namespace: str | None = None) -> bool:
        attributes = client.V1ResourceAttributes(
            verb=verb, group=group, resource=resource, namespace=self.namespace if namespace is None else namespace
        )
        review = client.V1SelfSubjectAccessReview(
            spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        )
        answer = _asked(client.AuthorizationV1Api().create_self_subject_access_review, review)
        return bool(answer.status.allowed)

    def _definition(self, name: str) -> bool:
        try:
            _asked(client.ApiextensionsV1Api().read_custom_resource_definition, name)
        except _AbsentError:
            return False
        return True


class _AbsentError(Exception):
    """The API server knows no such object."""


def _asked(call: Callable[..., Any], *arguments: Any) -> Any:
    """One request, within its time; a refusal in a sentence."""
    try:
        return call(*arguments, _request_timeout=_REQUEST_SECONDS)
    except ApiException as error:
        if error.status == 404:
            raise _AbsentError from error
        try:
            message = json.loads(error.body or "")["message"]
        except (ValueError, KeyError, TypeError):
            message = str(error.reason)
        raise WrongError(f"the API server says {error.status}: {message}") from error


def _secrets(platform: Platform) -> dict[str, set[str]]:
    """The Secrets that the platform names, with the keys that each must have."""
    wanted: dict[str, set[str]] = {}
    for role in ("operator", "producer", "sink", "query"):
        if name := platform.kafka.secret_of(role):
            wanted.setdefault(name, set()).update({"username", "password"})
    if platform.kafka.ca_secret_name:
        wanted.setdefault(platform.kafka.ca_secret_name, set()).add("ca.crt")
    if platform.registry.secret_name:
        wanted.setdefault(platform.registry.secret_name, set()).update({"username", "password"})
    if platform.catalog.secret_name:
        wanted.setdefault(platform.catalog.secret_name, set())
    return wanted


def cluster(namespace: str, values: Values) -> Group:
    """Checks of the cluster that kubectl speaks to, for an installation into that namespace."""
    return Group("Cluster", [replace(each, seconds=_CHECK_SECONDS) for each in _Cluster(namespace, values).checks()])


def from_a_pod(namespace: str, values: Values) -> Iterator[Diagnosis]:
    """Run `k2 doctor --write` in a pod of that namespace, with what the values say; its findings.

    A finding `data-from-a-pod` alone tells why there are none.
    """

    def said(standing: Standing, text: str, remedy: str = "") -> Diagnosis:
        return Diagnosis("data-from-a-pod", "From a pod", standing, text, remedy)

    try:
        platform = values.platform
        if platform is None:
            yield said(Standing.SKIPPED, "give the values of the installation: --values my-values.yaml")
            return
        found = _run_job(namespace, platform)
    except (WrongError, UserError, WorldError) as error:
        text = error.text if isinstance(error, WrongError) else str(error)
        yield said(
            Standing.WRONG, text, f"`kubectl -n {namespace} describe pods -l app.kubernetes.io/name={NAME}` tells more."
        )
        return
    for each in found:
        yield Diagnosis(each["code"], each["group"], Standing(each["standing"]), each["text"], each["remedy"])


def _run_job(namespace: str, platform: Platform) -> list[dict[str, str]]:
    batch, core = client.BatchV1Api(), client.CoreV1Api()
    _asked(batch.create_namespaced_job, namespace, _job(namespace, platform))
    try:
        deadline = time.monotonic() + JOB_SECONDS
        selector = f"app.kubernetes.io/name={NAME}"
        while time.monotonic() < deadline:
            for each in _asked(
                lambda **options: core.list_namespaced_pod(namespace, label_selector=selector, **options)
            ).items:
                if each.status.phase in {"Succeeded", "Failed"}:
                    return _findings(_asked(core.read_namespaced_pod_log, each.metadata.name, namespace))
            time.sleep(1)
        raise WrongError(
            f"the pod of Job {NAME} did not end within {JOB_SECONDS:.0f} s: {_waits(core, namespace, selector)}"
        )
    finally:
        options = client.V1DeleteOptions(propagation_policy="Background")
        batch.delete_namespaced_job(NAME, namespace, body=options, _request_timeout=_REQUEST_SECONDS)


def _findings(log: str) -> list[dict[str, str]]:
    # A container's log has what it says on stderr, too.
    told = re.search(r"^\[$.*^\]$", log, re.DOTALL | re.MULTILINE)
    try:
        return list(json.loads(told[0] if told else ""))
    except ValueError as error:
        raise WrongError(f"the pod did not say what it found: {log[-500:].strip() or 'nothing'}") from error


def _waits(core: client.CoreV1Api, namespace: str, selector: str) -> str:
    """What keeps the pod from running, as the kubelet or the scheduler says."""
    pods = _asked(lambda **options: core.list_namespaced_pod(namespace, label_selector=selector, **options)).items
    for each in pods:
        for container in each.status.container_statuses or ():
            if (waiting := container.state.waiting) is not None:
                return f"{waiting.reason} {waiting.message or ''}".strip()
        for condition in each.status.conditions or ():
            if condition.status == "False" and condition.message:
                return str(condition.message)
    return "there is no pod" if not pods else "it runs"


def _job(namespace: str, platform: Platform) -> dict[str, Any]:
    workload = pod.Workload(
        args=("doctor", "--write", "--output", "json"),
        env=pod.base_env() + environment.connections(platform, "operator"),
        ports={},
        probed=None,
        resources=Resources(),
        mounts=environment.volumes(platform, "operator"),
        restart_policy="Never",
        configured=False,
    )
    marks = {labels.COMPONENT: "doctor", "app.kubernetes.io/name": NAME}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": NAME, "namespace": namespace, "labels": marks},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(JOB_SECONDS),
            "template": pod.template(NAME, marks, platform.images, workload),
        },
    }
