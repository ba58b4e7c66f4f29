"""Deployments: a sink of a (topic, table) pair, a live producer, the query service; with what serves and guards their pods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from k2.model.platform import Platform
from k2_operator.build import autoscaling, budget, configmap, environment, files, names, pod, service, stamp
from k2_operator.build.types import (
    ConfigMap,
    Counted,
    Deployment,
    DeploymentStrategy,
    Manifest,
    Mount,
    PodTemplate,
    Rolling,
)
from k2_operator.plan.plans import FeedPlan, ProducerPlan, QueryPlan, SinkPlan
from k2_operator.spec import labels

API_KEYS_DIR = "/etc/k2/api-keys"
PROGRESS_SECONDS = 300
"""How long new pods may take before a rollout is said to be stuck: an image has come by then, and a partition has moved."""


def sink(feed: FeedPlan, plan: SinkPlan, platform: Platform) -> list[Manifest]:
    """ConfigMap and Deployment of a sink, its Service, its autoscaler, and a budget where it has more than one pod."""
    name = names.sink(plan.config.topic, plan.config.table)
    marks = labels.of("sink", name, feed=feed.name, topic=plan.config.topic)
    config, template = _pipeline("sink", name, marks, feed, plan, platform)
    # Without `replicas` whoever scales it owns them. Nothing scales what is suspended.
    scaled = plan.autoscaling is not None and not feed.suspended
    replicas = None if scaled else 0 if feed.suspended else plan.replicas
    deployment = _deployment("sink", name, feed.namespace, marks, template, replicas=replicas)
    built: list[Manifest] = [
        config,
        _stamped(deployment, feed, platform),
        service.metrics("sink", name, feed.namespace, marks),
    ]
    if scaled:
        built += autoscaling.of_sink(name, feed.namespace, marks, plan, platform)
    if plan.most > 1 and not feed.suspended:
        built.append(budget.one_at_a_time("sink", name, feed.namespace, marks))
    return built


def producer(feed: FeedPlan, plan: ProducerPlan, platform: Platform) -> list[Manifest]:
    """ConfigMap, Deployment and Service of a live source, and a budget where it has two pods.

    Of a market that several may hear a new pod comes before the old one goes. Any other source has one replica and never two, or it would
    be sent twice.
    """
    name = names.producer(feed.name)
    marks = labels.of("producer", name, feed=feed.name)
    config, template = _pipeline("producer", name, marks, feed, plan, platform)
    replicas = 0 if feed.suspended else plan.replicas
    how: Rolling = "RollingUpdate" if plan.hot else "Recreate"
    deployment = _deployment("producer", name, feed.namespace, marks, template, replicas=replicas, strategy=how)
    built: list[Manifest] = [
        config,
        _stamped(deployment, feed, platform),
        service.metrics("producer", name, feed.namespace, marks),
    ]
    if replicas > 1:
        built.append(budget.one_at_a_time("producer", name, feed.namespace, marks))
    return built


def _stamped(deployment: Deployment, feed: FeedPlan, platform: Platform) -> Deployment:
    deployment["metadata"]["annotations"] = stamp.marks_of(feed.generation, platform)
    return deployment


def _pipeline(
    component: Literal["sink", "producer"],
    name: str,
    marks: Mapping[str, str],
    feed: FeedPlan,
    plan: SinkPlan | ProducerPlan,
    platform: Platform,
) -> tuple[ConfigMap, PodTemplate]:
    """ConfigMap and pod template of a workload that serves nothing but its health and metrics."""
    config = configmap.config_map(name, feed.namespace, marks, plan.config)
    env = pod.config_env() + pod.base_env() + pod.metrics_env() + environment.connections(platform, component)
    mounts = environment.volumes(platform, component)
    if isinstance(plan, ProducerPlan):
        files.of_source(plan.volume, env, mounts)
    workload = pod.Workload(
        args=("run", component),
        env=env,
        ports={"metrics": pod.METRICS_PORT},
        probed="metrics",
        resources=plan.resources,
        mounts=mounts,
        annotations={labels.CONFIG_HASH: configmap.config_hash(config, env)},
    )
    return config, pod.template(name, marks, platform.images, workload)


def query(plan: QueryPlan, platform: Platform) -> list[ConfigMap | Deployment]:
    """ConfigMap and Deployment of the query service."""
    marks = labels.of("query", plan.name)
    # On one machine the configuration names the file where it lies; in a pod it is where the Secret is mounted.
    keys_file = plan.config.api_keys_file or Path(API_KEYS_DIR) / "keys.json"
    described = plan.config.model_copy(update={"api_keys_file": keys_file})
    config = configmap.config_map(plan.name, plan.namespace, marks, described)
    env = [
        *pod.config_env(),
        *pod.base_env(),
        environment.literal("K2_HTTP_PORT", str(pod.HTTP_PORT)),
        *environment.connections(platform, "query"),
    ]
    keys: Mount = (
        {"name": "api-keys", "secret": {"secretName": plan.api_keys_secret}},
        API_KEYS_DIR,
    )
    mounts: Sequence[Mount] = [keys, *environment.volumes(platform, "query")]
    workload = pod.Workload(
        args=("run", "query"),
        env=env,
        ports={"http": pod.HTTP_PORT},
        probed="http",
        resources=plan.resources,
        mounts=mounts,
        grace_seconds=30,
        annotations={labels.CONFIG_HASH: configmap.config_hash(config, env)},
    )
    template = pod.template(plan.name, marks, platform.images, workload)
    return [config, _deployment("query", plan.name, plan.namespace, marks, template, replicas=plan.replicas)]


def _deployment(
    component: labels.Component,
    name: str,
    namespace: str,
    marks: Mapping[str, str],
    template: PodTemplate,
    *,
    replicas: int | None,
    strategy: Rolling = "RollingUpdate",
) -> Deployment:
    counted: Counted = {} if replicas is None else {"replicas": replicas}
    how: DeploymentStrategy = {"type": strategy}
    if strategy == "RollingUpdate":
        # A pod goes when another one is ready: an image that does not work stops nothing.
        how["rollingUpdate"] = {"maxUnavailable": 0, "maxSurge": 1}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(marks)},
        "spec": {
            **counted,
            "selector": {"matchLabels": labels.selector(component, name)},
            "strategy": how,
            "progressDeadlineSeconds": PROGRESS_SECONDS,
            "template": template,
        },
    }
