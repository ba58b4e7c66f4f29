"""The ConfigMap that carries a workload's configuration, and the hash that rolls the workload when it changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from pydantic import BaseModel

from k2_operator.build import names
from k2_operator.build.types import ConfigMap, EnvVar

FILE = "config.json"


def config_map(workload: str, namespace: str, labels: Mapping[str, str], config: BaseModel) -> ConfigMap:
    """Render a configuration as JSON with sorted keys: the same plan gives the same bytes."""
    text = json.dumps(config.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": names.config(workload), "namespace": namespace, "labels": dict(labels)},
        "data": {FILE: text},
    }


def config_hash(config: ConfigMap, env: list[EnvVar]) -> str:
    """A hash over what a workload is told, by file and by environment."""
    canonical = json.dumps([config["data"], env], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
