"""The programs that the charts are tested with, and the schemas that everything rendered must obey."""

from pathlib import Path

import pytest
import yaml
from k2_testing import chart_schemas, charts

BUILT = {"kubeconform", "promtool", "schemas"}


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            # The first run on a machine may build its programs, which takes minutes.
            item.add_marker(pytest.mark.timeout(1800))
            if BUILT & set(item.fixturenames):
                item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def helm() -> Path:
    return charts.program("helm")


@pytest.fixture(scope="session")
def kubeconform() -> Path:
    return charts.program("kubeconform")


@pytest.fixture(scope="session")
def promtool() -> Path:
    return charts.program("promtool")


@pytest.fixture(scope="session")
def schemas(tmp_path_factory) -> Path:
    """A folder of JSON schemas: Kubernetes, our kinds, Strimzi's, the Prometheus operator's, the Gateway API's."""
    folder = tmp_path_factory.mktemp("schemas")
    chart_schemas.write_builtin(charts.module("kubernetes") / "api/openapi-spec/swagger.json", folder)
    monitoring = charts.module("prometheus-operator") / "example/prometheus-operator-crd"
    for kind in ("podmonitors", "prometheusrules", "servicemonitors"):
        file = monitoring / f"monitoring.coreos.com_{kind}.yaml"
        chart_schemas.write_custom(yaml.safe_load(file.read_text()), folder)
    for file in (charts.module("gateway-api") / "config/crd/standard").glob("*routes.yaml"):
        chart_schemas.write_custom(yaml.safe_load(file.read_text()), folder)
    for definition in charts.strimzi_definitions():
        chart_schemas.write_custom(definition, folder)
    return folder
