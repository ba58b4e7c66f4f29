"""Names of log events: the same form in every module, so that they can be searched for and counted."""

import ast
import re
from pathlib import Path

import pytest

ROOTS = ("workloads/k2", "operator")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
LOGGERS = {"log", "_log"}
NAME = re.compile(r"[a-z_]+(\.[a-z_]+)+")

project = Path(__file__).parents[2]


def calls(source):
    """Calls of a module-level logger: line, and the argument that is the event's name (None: there is none)."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id in LOGGERS):
            continue
        if node.func.attr in LEVELS | {"log"}:
            place = 1 if node.func.attr == "log" else 0
            yield node.lineno, node.args[place:]


def faults(source):
    """Lines whose event is no literal name, or has arguments to be formatted into it."""
    for line, rest in calls(source):
        named = len(rest) == 1 and isinstance(rest[0], ast.Constant) and NAME.fullmatch(str(rest[0].value))
        if not named:
            yield line


@pytest.mark.parametrize("root", ROOTS)
def test_every_log_event_has_a_dotted_name_and_fields(root):
    modules = sorted((project / root).rglob("*.py"))
    found = [f"{path.relative_to(project)}:{line}" for path in modules for line in faults(path.read_text())]
    assert found == []
    assert sum(1 for path in modules for _ in calls(path.read_text())) > 5


@pytest.mark.parametrize("root", ROOTS)
def test_every_logger_comes_from_obs(root):
    """One of the standard module takes no fields; only the lines of librdkafka and kopf go through one."""
    kopf = ("process", "kube/access", "kube/watch")
    theirs = {"workloads/k2/bus/clients.py", "workloads/k2/obs/logging.py"}
    theirs |= {f"operator/k2_operator/{name}.py" for name in kopf}
    found = {
        path.relative_to(project).as_posix()
        for path in (project / root).rglob("*.py")
        if "logging.getLogger(" in path.read_text()
    }
    assert found - theirs == set()


@pytest.mark.parametrize(
    "line",
    [
        'log.info("tail begins")',
        'log.warning("lag of %s", topic)',
        '_log.error(f"commit.{what}")',
        'log.info("committed")',
        'log.log(20, "it failed")',
        "log.exception(text)",
    ],
)
def test_a_sentence_is_no_name(line):
    assert list(faults(line)) == [1]
