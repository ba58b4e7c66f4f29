"""The Job of a finite source. Its name holds the source's hash; who applies it remembers that it is done."""

from __future__ import annotations

from k2.model.platform import Platform
from k2_operator.build import configmap, environment, files, names, pod, stamp
from k2_operator.build.types import ConfigMap, Job
from k2_operator.plan.plans import FeedPlan, ProducerPlan
from k2_operator.spec import labels


def load(feed: FeedPlan, plan: ProducerPlan, platform: Platform) -> list[ConfigMap | Job]:
    """ConfigMap and Job that send a finite source once; a repeated attempt adds nothing (the ids are the same)."""
    name = names.load(feed.name, plan.source_hash)
    marks = labels.of("load", name, feed=feed.name)
    config = configmap.config_map(name, feed.namespace, marks, plan.config)
    env = pod.config_env() + pod.base_env() + pod.metrics_env() + environment.connections(platform, "producer")
    mounts = environment.volumes(platform, "producer")
    files.of_source(plan.volume, env, mounts)
    workload = pod.Workload(
        args=("run", "load"),
        env=env,
        ports={"metrics": pod.METRICS_PORT},
        probed=None,
        resources=plan.resources,
        mounts=mounts,
        restart_policy="OnFailure",
        annotations={labels.CONFIG_HASH: configmap.config_hash(config, env)},
    )
    return [
        config,
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": name,
                "namespace": feed.namespace,
                "labels": dict(marks),
                "annotations": stamp.marks_of(feed.generation, platform),
            },
            "spec": {
                "backoffLimit": 10,
                "suspend": feed.suspended,
                "template": pod.template(name, marks, platform.images, workload),
            },
        },
    ]
