"""The local executor with real, tiny processes in place of the workloads."""

import json
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from k2_local import show
from k2_local.host import processes
from k2_local.host.ports import PortTakenError
from k2_local.pods.executor import Executor
from k2_local.pods.subset import UnsupportedError
from k2_local.state import State

TINY = Path(__file__).with_name("tiny_workload.py")


@pytest.fixture
def machine(tmp_path):
    """Makes executors of one data directory whose `k2` is the tiny workload; all are stopped at the end."""
    made = []

    def executor(*manifests, **options) -> Executor:
        made.append(Executor(tmp_path / "data", program=(sys.executable, str(TINY)), **options))
        made[-1].apply(manifests)
        return made[-1]

    yield executor
    for each in made:
        each.stop()


def until(executor, condition, within=90.0):
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, [(s.name, s.phase, s.message) for s in executor.statuses()]
        executor.step()
        time.sleep(0.02)


def objects(name="sink", kind="Deployment", component="sink", config=None, env=(), volumes=(), mounts=(), **spec):
    container = {
        "name": component,
        "image": "k2-workloads:latest",
        "command": ["k2"],
        "args": ["run", component],
        "env": [
            {"name": "K2_CONFIG_FILE", "value": "/etc/k2/config/config.json"},
            {"name": "K2_DATA_DIR", "value": "/var/lib/k2"},
            {"name": "K2_HTTP_HOST", "value": "0.0.0.0"},
            {"name": "K2_METRICS_PORT", "value": "9090"},
            {"name": "K2_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            *env,
        ],
        "ports": [{"name": "metrics", "containerPort": 9090}],
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/k2/config", "readOnly": True},
            {"name": "state", "mountPath": "/var/lib/k2"},
            *mounts,
        ],
        "securityContext": {"readOnlyRootFilesystem": True},
    }
    if kind == "Deployment":
        container["readinessProbe"] = {"httpGet": {"path": "/ready", "port": "metrics"}, "periodSeconds": 1}
        container["livenessProbe"] = {
            "httpGet": {"path": "/health", "port": "metrics"},
            "periodSeconds": 0.1,
            "initialDelaySeconds": 600,  # a slow start is no bad health: the test of that makes it due
        }
    pod = {
        "terminationGracePeriodSeconds": 60,
        "containers": [container],
        "volumes": [
            {"name": "config", "configMap": {"name": f"{name}-config"}},
            {"name": "state", "emptyDir": {}},
            *volumes,
        ],
    }
    labels = {"app.kubernetes.io/component": component}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{name}-config", "namespace": "default"},
            "data": {"config.json": json.dumps(config or {})},
        },
        {
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": "default"},
            "spec": spec | {"template": {"metadata": {"labels": labels}, "spec": pod}},
        },
    ]


def job(name="load", **options):
    return objects(name, kind="Job", component="load", **options)


def pod_file(tmp_path, pod, name):
    return tmp_path / "data" / "pods" / pod / "state" / name


def test_a_deployment_runs_until_it_is_ready_with_its_paths_and_ports_remapped(tmp_path, machine, monkeypatch):
    monkeypatch.setenv("K2_KAFKA_BOOTSTRAP_SERVERS", "of the shell, and none of the pod's business")
    executor = machine(*objects(replicas=2, config={"topic": "t"}))
    until(executor, lambda: executor.settled)
    first, second = executor.statuses()
    assert (first.phase, first.ready, first.restarts) == ("Running", True, 0)
    assert first.ports["metrics"] != second.ports["metrics"]
    env = json.loads(pod_file(tmp_path, "sink-0", "env.json").read_text())
    assert env["K2_DATA_DIR"] == str(tmp_path / "data/pods/sink-0/state")
    assert env["K2_CONFIG_FILE"] == str(tmp_path / "data/pods/sink-0/config/config.json")
    assert env["K2_METRICS_PORT"] == str(first.ports["metrics"])
    assert env["K2_HTTP_HOST"] == "127.0.0.1"
    assert env["K2_POD_NAME"] == "sink-0"
    assert "K2_KAFKA_BOOTSTRAP_SERVERS" not in env
    assert "run 1 ['run', 'sink']" in (tmp_path / "data/logs/sink-0.log").read_text()


def test_a_pod_that_is_not_ready_says_why_and_is_not_restarted(tmp_path, machine):
    executor = machine(*objects(replicas=1, config={"never_ready": True}))
    until(executor, lambda: executor.statuses()[0].message == "waiting for Kafka")
    assert not executor.settled
    assert executor.statuses()[0].restarts == 0
    assert executor.statuses()[0].warning == ""
    # What only people can mend it says as a warning, too, and `k2 up` tells that at once.
    pod_file(tmp_path, "sink-0", "warned").touch()
    until(executor, lambda: executor.statuses()[0].warning == "many dead letters")
    assert executor.statuses()[0].message == "waiting for Kafka"


def test_a_pod_that_warns_is_ready_all_the_same_until_it_warns_no_more(tmp_path, machine, capsys):
    executor = machine(*objects(replicas=1))
    until(executor, lambda: executor.settled)
    assert executor.statuses()[0].warning == ""
    pod_file(tmp_path, "sink-0", "warned").touch()
    until(executor, lambda: executor.statuses()[0].warning == "many dead letters")
    assert executor.settled
    running = State(
        processes.own_record("supervisor", tmp_path / "up.log"), "", True, "", (), (executor.statuses()[0],)
    )
    show.status(running, tmp_path / "data")
    assert "sink-0: warning: many dead letters" in capsys.readouterr().out
    pod_file(tmp_path, "sink-0", "warned").unlink()
    until(executor, lambda: executor.statuses()[0].warning == "")


def test_a_crash_is_restarted_with_growing_pauses_and_told_apart_from_a_start(machine):
    executor = machine(*objects(replicas=1, config={"exit": 3, "why": "no such topic"}))
    until(executor, lambda: executor.statuses()[0].restarts == 2)
    (status,) = executor.statuses()
    assert status.phase == "CrashLoopBackOff"
    assert "exit code 3" in status.message
    assert "giving up: no such topic" in status.message
    assert not executor.settled


def test_a_pod_that_recovers_from_a_crash_becomes_ready_and_keeps_its_folder(tmp_path, machine):
    executor = machine(*objects(replicas=1, config={"exit": 1, "times": 1}))
    until(executor, lambda: executor.settled)
    assert executor.statuses()[0].restarts == 1
    assert pod_file(tmp_path, "sink-0", "runs").read_text() == "xx"


def test_a_pod_whose_health_fails_is_restarted(tmp_path, machine):
    executor = machine(*objects(replicas=1))
    until(executor, lambda: executor.settled)
    pod_file(tmp_path, "sink-0", "broken").touch()
    executor.pods[0]._liveness.due = 0.0
    until(executor, lambda: executor.statuses()[0].restarts == 1)
    pod_file(tmp_path, "sink-0", "broken").unlink()
    until(executor, lambda: executor.settled)


def test_a_pod_is_asked_for_its_health_and_whether_it_is_ready_once_it_has_begun_to_answer(tmp_path, machine):
    built = objects(replicas=1)
    container = built[1]["spec"]["template"]["spec"]["containers"][0]
    probe = {"httpGet": {"path": "/health", "port": "metrics"}, "periodSeconds": 1, "failureThreshold": 1000}
    container["startupProbe"] = probe
    container["livenessProbe"] |= {"initialDelaySeconds": 0, "failureThreshold": 1}
    folder = pod_file(tmp_path, "sink-0", "broken").parent
    folder.mkdir(parents=True)
    (folder / "broken").touch()
    executor = machine(*built)
    # By its liveness alone it would have been ended with the first of these answers.
    until(executor, lambda: executor.pods[0]._startup is not None and executor.pods[0]._startup.failures >= 3)
    assert (executor.statuses()[0].restarts, executor.settled) == (0, False)
    (folder / "broken").unlink()
    until(executor, lambda: executor.settled)
    assert (folder / "runs").read_text() == "x"


def test_a_pod_that_never_begins_to_answer_is_restarted(tmp_path, machine):
    built = objects(replicas=1)
    container = built[1]["spec"]["template"]["spec"]["containers"][0]
    container["startupProbe"] = {
        "httpGet": {"path": "/health", "port": "metrics"},
        "periodSeconds": 0.1,
        "failureThreshold": 2,
    }
    folder = pod_file(tmp_path, "sink-0", "broken").parent
    folder.mkdir(parents=True)
    (folder / "broken").touch()
    executor = machine(*built)
    until(executor, lambda: executor.statuses()[0].restarts >= 1)


def test_a_job_that_is_done_is_never_run_again(tmp_path, machine):
    executor = machine(*job(config={"once": True}))
    until(executor, lambda: executor.statuses()[0].phase == "Completed")
    assert executor.settled
    executor.stop()
    later = machine(*job(config={"once": True}))
    later.step()
    assert later.statuses() == []
    assert later.finished == ["load"]
    assert pod_file(tmp_path, "load-0", "runs").read_text() == "x"


def test_a_job_that_was_stopped_is_run_again(tmp_path, machine):
    executor = machine(*job())
    until(executor, lambda: pod_file(tmp_path, "load-0", "env.json").exists())
    executor.stop()
    later = machine(*job(config={"once": True}))
    until(later, lambda: later.statuses()[0].phase == "Completed")


def test_a_job_that_always_fails_ends_as_failed_after_its_limit(machine):
    executor = machine(*job(config={"exit": 1}, backoffLimit=1))
    until(executor, lambda: executor.statuses()[0].phase == "Failed")
    assert executor.statuses()[0].restarts == 1
    assert not executor.settled


def test_a_suspended_job_and_a_deployment_of_zero_replicas_run_nothing(machine):
    executor = machine(*job(suspend=True), *objects(replicas=0))
    executor.step()
    assert executor.statuses() == []
    assert executor.settled


def test_senders_are_stopped_before_sinks(tmp_path, machine):
    executor = machine(
        *objects("sink", replicas=1),
        *objects("feed-producer", component="producer", replicas=1, config={"stop_seconds": 0.5}),
    )
    until(executor, lambda: executor.settled)
    executor.stop()
    stopped = {name: float(pod_file(tmp_path, name, "stopped").read_text()) for name in ("feed-producer-0", "sink-0")}
    assert stopped["feed-producer-0"] < stopped["sink-0"]
    assert {status.phase for status in executor.statuses()} == {"Stopped"}
    assert list((tmp_path / "data/run").glob("*.json")) == []


def test_a_secret_is_waited_for_by_name_and_reaches_the_pod_as_variable_and_file(tmp_path, machine):
    manifests = objects(
        replicas=1,
        env=[
            {"name": "K2_KAFKA_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "k2-kafka", "key": "password"}}},
            {"name": "K2_KAFKA_CA_FILE", "value": "/etc/k2/ca/ca.crt"},
            {"name": "K2_TOPIC", "valueFrom": {"configMapKeyRef": {"name": "sink-config", "key": "config.json"}}},
        ],
        volumes=[{"name": "ca", "secret": {"secretName": "k2-kafka"}}],
        mounts=[{"name": "ca", "mountPath": "/etc/k2/ca", "readOnly": True}],
    )
    executor = machine(*manifests)
    executor.step()
    assert executor.statuses()[0].phase == "Pending"
    assert executor.statuses()[0].message.startswith("There is no Secret k2-kafka")
    folder = tmp_path / "data/secrets/k2-kafka"
    folder.mkdir(parents=True)
    (folder / "password").write_text("hush\n")
    until(executor, lambda: executor.settled)
    env = json.loads(pod_file(tmp_path, "sink-0", "env.json").read_text())
    assert env["K2_KAFKA_PASSWORD"] == "hush"
    assert env["K2_KAFKA_CA_FILE"] == str(folder / "ca.crt")
    assert env["K2_TOPIC"] == "{}"


def test_a_claim_is_a_folder_of_the_data_directory(tmp_path, machine):
    (tmp_path / "data/volumes/ticks").mkdir(parents=True)
    manifests = objects(
        replicas=1,
        env=[{"name": "K2_SOURCE_DIR", "value": "/var/lib/k2-source"}],
        volumes=[{"name": "source", "persistentVolumeClaim": {"claimName": "ticks"}}],
        mounts=[{"name": "source", "mountPath": "/var/lib/k2-source", "readOnly": True}],
    )
    executor = machine(*manifests)
    until(executor, lambda: executor.settled)
    env = json.loads(pod_file(tmp_path, "sink-0", "env.json").read_text())
    assert env["K2_SOURCE_DIR"] == str(tmp_path / "data/volumes/ticks")


def test_a_published_port_is_the_one_that_was_asked_for(machine):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    executor = machine(*objects("k2-query", replicas=1), published={("k2-query", "metrics"): port})
    until(executor, lambda: executor.settled)
    assert executor.statuses()[0].ports == {"metrics": port}


def test_a_published_port_that_another_took_ends_the_start_but_not_what_has_run(machine, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        executor = machine(
            *objects("k2-query", component="query", replicas=1), published={("k2-query", "metrics"): port}
        )
        with pytest.raises(PortTakenError, match=f"127.0.0.1:{port} in use by process"):
            executor.step()
    until(executor, lambda: executor.settled)
    (served,) = executor.statuses()
    executor.pods[0].process.kill()
    # Before it is started again somebody else has the port.
    with socket.create_server(("127.0.0.1", port)):
        until(executor, lambda: "is taken" in executor.statuses()[0].message)
        (waits,) = executor.statuses()
        for pod, told in ((served, f"query API: http://127.0.0.1:{port}"), (waits, "query API: does not serve")):
            own = processes.own_record("supervisor", tmp_path / "up.log")
            show.status(State(own, "", True, f"http://127.0.0.1:{port}", (), (pod,)), tmp_path / "data")
            assert told in capsys.readouterr().out
    until(executor, lambda: executor.settled)


def test_a_published_port_is_kept_for_who_it_was_asked_for(machine, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    # Whoever asks for any free port is offered that one first.
    monkeypatch.setattr("random.sample", lambda some, count: [port, *list(some)[:count]])
    published = {("k2-query", "metrics"): port}
    executor = machine(*objects("sink", replicas=1), *objects("k2-query", replicas=1), published=published)
    executor.step()  # before either of them listens
    ports = {status.name: status.ports["metrics"] for status in executor.statuses()}
    assert ports["k2-query-0"] == port != ports["sink-0"]


def test_a_workload_that_ignores_sigterm_is_killed_after_its_grace(machine):
    manifests = objects(replicas=1, config={"stop_seconds": 60})
    manifests[1]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0.3
    executor = machine(*manifests)
    until(executor, lambda: executor.settled)
    process = executor.pods[0].process
    executor.stop()
    assert process.poll() == -signal.SIGKILL


def change(path, value):
    def apply(manifests):
        target = manifests[1]
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value
        return manifests

    return apply


POD = ("spec", "template", "spec")
CONTAINER = (*POD, "containers", 0)


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (change(("kind",), "StatefulSet"), "StatefulSet"),
        (change(("spec", "paused"), True), "paused"),
        (change((*POD, "hostNetwork"), True), "hostNetwork"),
        (change((*POD, "initContainers"), []), "initContainers"),
        (change((*POD, "containers"), []), "0 containers"),
        (change((*POD, "volumes"), [{"name": "x", "hostPath": {"path": "/"}}]), "hostPath"),
        (change((*CONTAINER, "command"), ["sh", "-c"]), "sh"),
        (change((*CONTAINER, "lifecycle"), {}), "lifecycle"),
        (change((*CONTAINER, "env"), [{"name": "A", "valueFrom": {"resourceFieldRef": {}}}]), "resourceFieldRef"),
        (
            change((*CONTAINER, "env"), [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]),
            "status.podIP",
        ),
        (change((*CONTAINER, "readinessProbe"), {"exec": {"command": ["true"]}}), "exec"),
        (change((*CONTAINER, "readinessProbe", "httpGet", "httpHeaders"), []), "httpHeaders"),
    ],
)
def test_what_is_outside_the_subset_is_refused_before_anything_runs(machine, edit, found):
    with pytest.raises(UnsupportedError) as failure:
        machine(*edit(objects(replicas=1)))
    assert found in str(failure.value)
    assert "cannot be run on this machine" in str(failure.value)
