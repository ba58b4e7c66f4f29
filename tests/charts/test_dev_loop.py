"""kind-config.yaml and the Tiltfile, read by their own languages: what they name is there, and they fit the charts."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import starlark
import yaml
from k2_testing import charts

ROOT = charts.ROOT


class Tilt:
    """Stand-ins for Tilt's built-ins, as far as the Tiltfile uses them: each call is written down.

    What Tilt checks itself is checked here: paths that exist, resources that were declared before they are configured.
    """

    def __init__(self, helm: Path, subcommand: str = "up", **options) -> None:
        self.options = options
        self.subcommand = subcommand
        self.ran: list[str] = []
        self.declared: set[str] = set()
        self.images: dict[str, dict] = {}
        self.manifests: list[dict] = []
        self.resources: dict[str, dict] = {}
        self.locals: dict[str, dict] = {}
        self.contexts: list[str] = []
        self.placed: set[str] = set()
        self._helm = helm

    def evaluate(self) -> "Tilt":
        module = starlark.Module()
        for name in (
            "docker_build",
            "k8s_yaml",
            "k8s_resource",
            "local_resource",
            "helm",
            "blob",
            "sync",
            "run",
            "link",
        ):
            module.add_callable(name, getattr(self, name))
        module.add_callable("decode_yaml_stream", lambda text: [m for m in yaml.safe_load_all(text) if m])
        module.add_callable("fall_back_on", self.fall_back_on)
        module.add_callable("port_forward", lambda local, container=None, name="": [local, container, name])
        module.add_callable("allow_k8s_contexts", self.contexts.extend)
        module.add_callable("config_define", lambda name, usage="": self.declared.add(name))
        module.add_callable("config_parse", self._parse)
        module.add_callable("local", self.ran.append)
        module["TRIGGER_MODE_MANUAL"] = "manual"
        module["config_tilt_subcommand"] = self.subcommand
        # The language has no objects with methods: `config.define_bool` becomes a plain function.
        source = (ROOT / "Tiltfile").read_text()
        for method in ("define_string_list", "define_string", "define_bool"):
            source = source.replace(f"config.{method}(", "config_define(")
        source = source.replace("config.parse(", "config_parse(").replace("config.tilt_", "config_tilt_")
        dialect = starlark.Dialect.extended()
        dialect.enable_top_level_stmt = True
        starlark.eval(module, starlark.parse("Tiltfile", source, dialect=dialect), starlark.Globals.standard())
        return self

    def _parse(self):
        assert set(self.options) <= self.declared
        return self.options

    def docker_build(self, ref, *, context, dockerfile, target, only, live_update, match_in_env_vars=False):
        assert context == "."
        for path in only:
            assert (ROOT / path).exists(), path
        text = (ROOT / dockerfile).read_text()
        assert f" AS {target}\n" in text
        for line in text.splitlines():
            words = line.split()
            if words[:1] == ["COPY"] and "--from" not in line:
                for source in words[1:-1]:
                    assert any(source == each or source.startswith(f"{each}/") for each in only), f"{ref}: {source}"
        self.images[ref] = {"live_update": live_update, "env": match_in_env_vars, "dockerfile": text}

    def helm(self, path, *, name, namespace, kube_version, values=(), set=()):  # noqa: A002 - Tilt's name
        assert kube_version == charts.KUBERNETES
        flags = [part for file in values for part in ("-f", str(ROOT / file))]
        flags += [part for value in set for part in ("--set", value)]
        return charts.template(
            self._helm, path.removeprefix("charts/"), "--skip-tests", *flags, release=name, namespace=namespace
        )

    def blob(self, text):
        return text

    def k8s_yaml(self, text):
        self.manifests += [document for document in yaml.safe_load_all(text) if document]

    def k8s_resource(
        self,
        workload="",
        *,
        new_name="",
        objects=(),
        labels=(),
        resource_deps=(),
        port_forwards=(),
        links=(),
        extra_pod_selectors=(),
    ):
        if workload:
            assert workload in self.workloads(), f"no such workload: {workload}"
        there = {f"{m['metadata']['name']}:{m['kind'].lower()}" for m in self.manifests}
        assert set(objects) <= there
        self.placed |= set(objects)
        for dependency in resource_deps:
            assert dependency in self.workloads() | set(self.resources) | set(self.locals), dependency
        self.resources[workload or new_name] = {
            "labels": labels,
            "links": links,
            "forwards": port_forwards,
            "pods": extra_pod_selectors,
        }

    def local_resource(self, name, cmd, *, deps=(), labels=(), resource_deps=(), auto_init=True, trigger_mode="auto"):
        for path in deps:
            assert (ROOT / path).exists(), path
        for dependency in resource_deps:
            assert dependency in self.resources
        self.locals[name] = {"cmd": cmd, "labels": labels, "auto": auto_init and trigger_mode != "manual"}

    def sync(self, local, remote):
        assert (ROOT / local).is_dir()
        return ["sync", local, remote]

    def run(self, command):
        return ["run", command]

    def fall_back_on(self, paths):
        for path in paths:
            assert (ROOT / path).exists(), path
        return ["fall_back_on", *paths]

    def link(self, url, name):
        return [url, name]

    def workloads(self) -> set[str]:
        return {m["metadata"]["name"] for m in self.manifests if m["kind"] in ("Deployment", "StatefulSet")}


@pytest.fixture(scope="module")
def tilt(helm):
    return Tilt(helm).evaluate()


@pytest.fixture(scope="module")
def kind_config():
    return yaml.safe_load((ROOT / "kind-config.yaml").read_text())


def test_everything_stands_in_a_group(tilt):
    assert set(tilt.resources) == {*tilt.workloads(), "namespace", "parts-settings", "k2-settings"}
    # Tilt applies what is in no resource at once, before there is a namespace.
    loose = [m for m in tilt.manifests if m["kind"] not in ("Deployment", "StatefulSet", "Service")]
    assert {f"{m['metadata']['name']}:{m['kind'].lower()}" for m in loose} == tilt.placed
    assert {label for each in tilt.resources.values() for label in each["labels"]} == {"parts", "k2"}
    assert {label for each in tilt.locals.values() for label in each["labels"]} == {"feeds", "buttons"}


def test_both_images_are_updated_live_where_the_image_has_its_code(tilt):
    assert set(tilt.images) == {"k2-operator", "k2-workloads"}
    for image in tilt.images.values():
        steps = image["live_update"]
        assert [step[0] for step in steps] == ["fall_back_on", "sync", "sync", "sync", "run"]
        assert "/tmp/k2-dev.pid" in steps[-1][1]
        for _, local, remote in steps[1:-1]:
            assert remote == f"/tmp/k2-code/{Path(local).name}"
            assert f"COPY {local} /src/{local}" in image["dockerfile"]
            assert "--target /opt/app" in image["dockerfile"]
    assert tilt.images["k2-workloads"]["env"]


def test_the_pods_that_the_operator_makes_are_updated_with_it(tilt):
    (selectors,) = (each["pods"] for each in tilt.resources.values() if each["pods"])
    assert selectors is tilt.resources["k2-operator"]["pods"]

    def updated(pod_labels):
        return any(each.items() <= pod_labels.items() for each in selectors)

    documents = [*yaml.safe_load_all((ROOT / "tests/golden/feed-live.yaml").read_text())]
    documents += yaml.safe_load_all((ROOT / "tests/golden/feed-finite.yaml").read_text())
    made = {}
    for each in documents:
        if each["kind"] in ("Deployment", "Job"):
            pod = each["spec"]["template"]
            made.setdefault(pod["metadata"]["labels"]["app.kubernetes.io/component"], []).append(pod)
    assert set(made) == {"sink", "producer", "load"}
    assert {name for name, pods in made.items() if all(updated(pod["metadata"]["labels"]) for pod in pods)} == {
        "sink",
        "producer",
    }
    assert not any(updated(pod["metadata"]["labels"]) for pod in made["load"])
    # Where changed code is copied to, each of them may write, and only there.
    for pod in itertools.chain(*made.values()):
        (container,) = pod["spec"]["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        (mount,) = (mount for mount in container["volumeMounts"] if mount["mountPath"] == "/tmp")
        assert {"name": mount["name"], "emptyDir": {}} in pod["spec"]["volumes"]


def test_changed_code_runs_after_the_process_was_ended_and_a_new_container_has_it_still(tmp_path):
    app, package = tmp_path / "app", tmp_path / "app" / "k2"
    for folder in (app / "once", app / "bin", package, tmp_path / "tmp"):
        folder.mkdir(parents=True)
    (package / "__init__.py").write_text("says = 'as built'\n")
    program = "import os, sys, time, k2; print(k2.says, flush=True); time.sleep(0 if sys.argv[1:] == ['once'] else 600)"
    (app / "once" / "k2").write_text(f'#!/bin/sh\nexec {sys.executable} -B -c "{program}" "$@"\n')
    (app / "once" / "k2").chmod(0o755)
    env = {"PATH": os.environ["PATH"], "K2_DEV_APP": str(app), "K2_DEV_TMP": str(tmp_path / "tmp")}
    loop = app / "bin" / "k2"
    loop.write_bytes((ROOT / "workloads/dev-loop.sh").read_bytes())

    def started():
        return subprocess.Popen(["sh", loop, "run", "sink"], env=env, stdout=subprocess.PIPE, text=True)

    def ended(process):
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()

    def process_of(loop, *, other_than=0):
        """The pid that the loop has written down for its process."""
        deadline, found = time.monotonic() + 120, ""
        while not found.endswith("\n") or int(found) == other_than:
            assert loop.poll() is None
            assert time.monotonic() < deadline, "the loop starts nothing"
            time.sleep(0.02)
            file = tmp_path / "tmp/k2-dev.pid"
            found = file.read_text() if file.exists() else ""
        return int(found)

    container = started()
    assert container.stdout.readline() == "as built\n"
    first = process_of(container)
    (tmp_path / "tmp/k2-code/k2/__init__.py").write_text("says = 'as changed'\n")
    os.kill(first, signal.SIGTERM)
    assert container.stdout.readline() == "as changed\n"
    second = process_of(container, other_than=first)
    ended(container)
    again = started()
    assert again.stdout.readline() == "as changed\n"
    process_of(again, other_than=second)
    ended(again)
    typed = subprocess.run(["sh", loop, "once"], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert typed.stdout == "as changed\n"


def test_the_operator_starts_sinks_from_the_image_that_was_just_built(tilt):
    (operator,) = (m for m in tilt.manifests if m["kind"] == "Deployment" and m["metadata"]["name"] == "k2-operator")
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert env["K2_OPERATOR_WORKLOAD_IMAGE"].startswith("k2-workloads:")
    # Nothing is looser than where it runs in earnest: what is missing in the code's way is missed here first.
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_buttons_do_nothing_until_they_are_pressed(tilt):
    buttons = {name for name, each in tilt.locals.items() if "buttons" in each["labels"]}
    assert buttons == {"load-sample", "reset", "try-it"}
    assert not any(tilt.locals[name]["auto"] for name in buttons)
    assert tilt.locals["samples"]["auto"]


def test_feeds_are_deleted_before_their_operator_and_their_definitions_are(helm, tilt, tmp_path):
    assert tilt.ran == []
    (command,) = Tilt(helm, "down").evaluate().ran
    asked = tmp_path / "asked"

    def go(**answers):
        """Runs it with a kubectl that ends as it is told for each verb; what it was asked."""
        cases = "\n".join(f"{verb}) exit {code};;" for verb, code in answers.items())
        (tmp_path / "kubectl").write_text(
            f'#!/bin/sh\nshift 4\necho "$@" >> {asked}\n'
            f'[ "$1 $3" != "get -o" ] || echo marketfeed.k2.dev/sim\ncase "$1" in\n{cases}\nesac\nexit 0\n'
        )
        (tmp_path / "kubectl").chmod(0o755)
        asked.write_text("")
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        subprocess.run(["sh", "-c", command], env=env, timeout=60, check=True)
        return [line.split()[0] for line in asked.read_text().splitlines()]

    assert go() == ["get", "delete"]
    assert go(delete=1) == ["get", "delete", "get", "patch"]
    assert '{"metadata":{"finalizers":null}}' in asked.read_text()
    (tmp_path / "kubectl").write_text("#!/bin/sh\nexit 1\n")  # no cluster, or K2 was never in it
    subprocess.run(["sh", "-c", command], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, timeout=60, check=True)


def test_it_works_on_this_machines_cluster_and_on_no_other(tilt, kind_config):
    assert tilt.contexts == [f"kind-{kind_config['name']}"]
    for each in tilt.locals.values():
        assert each["cmd"].count("kubectl") == each["cmd"].count(f"kubectl --context {tilt.contexts[0]} ")


def test_links_lead_where_kind_maps_a_port(tilt, kind_config):
    ports = {mapping["hostPort"] for mapping in kind_config["nodes"][0]["extraPortMappings"]}
    links = tilt.resources["k2-query"]["links"]
    assert {name for _, name in links} == {"API", "Metrics"}
    assert all(int(url.split(":")[2].split("/")[0]) in ports for url, _ in links)


def test_what_kind_maps_is_the_queries_node_port_on_loopback(tilt, kind_config):
    mappings = kind_config["nodes"][0]["extraPortMappings"]
    assert {mapping["listenAddress"] for mapping in mappings} == {"127.0.0.1"}
    (service,) = (m for m in tilt.manifests if m["kind"] == "Service" and m["metadata"]["name"] == "k2-query")
    assert service["spec"]["ports"][0]["nodePort"] in {mapping["containerPort"] for mapping in mappings}


def test_addresses_and_secrets_of_the_platform_are_those_of_the_parts(tilt):
    (config,) = (m for m in tilt.manifests if m["kind"] == "ConfigMap" and m["metadata"]["name"] == "k2-platform")
    platform = yaml.safe_load(config["data"]["platform.yaml"])
    services = {m["metadata"]["name"]: m["spec"]["ports"][0]["port"] for m in tilt.manifests if m["kind"] == "Service"}
    assert platform["kafka"]["bootstrapServers"] == f"kafka:{services['kafka']}"
    assert platform["registry"]["url"].startswith(f"http://registry:{services['registry']}/")
    assert platform["catalog"]["properties"]["s3.endpoint"] == f"http://minio:{services['minio']}"
    secrets = {m["metadata"]["name"]: m["data"] for m in tilt.manifests if m["kind"] == "Secret"}
    assert set(secrets[platform["catalog"]["secretName"]]) == {"uri", "s3.access-key-id", "s3.secret-access-key"}


def test_a_reload_changes_no_password(helm, tilt):
    def secrets(found):
        return {m["metadata"]["name"]: m["data"] for m in found.manifests if m["kind"] == "Secret"}

    assert secrets(tilt) == secrets(Tilt(helm).evaluate())


def test_ones_own_parts_are_not_installed_twice(helm):
    tilt = Tilt(helm, kafka=False, minio=False, namespace="desk").evaluate()
    assert tilt.workloads() == {"k2-operator", "k2-query", "registry", "postgresql"}
    assert {m["metadata"].get("namespace") for m in tilt.manifests} <= {"desk", None}
