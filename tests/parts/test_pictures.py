"""A picture of each dashboard, drawn from what Prometheus has, for a person to look at: .cache/parts/pictures."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from k2_testing import figures
from k2_testing.cluster import until
from k2_testing.kind import ROOT

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(7200, func_only=True)]

PICTURES = ROOT / ".cache" / "parts" / "pictures"
MATPLOTLIB = "matplotlib==3.10.*"
MINUTES = 3
STEP = 5
# Nobody is refused, nothing is held up and nothing goes wrong here, so these have nothing to show.
MAY_BE_EMPTY = 0.4


def test_a_picture_of_each_dashboard(flowing, monitoring, manifests, tmp_path):
    until(lambda: has_past(flowing, monitoring), "no past to draw", 600, 5)
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, board in figures.dashboards(manifests).items():
        told = pictured(board, monitoring)
        source, target = tmp_path / f"{name}.json", PICTURES / f"{name}.png"
        source.write_text(json.dumps(told))
        draw(source, target)
        assert target.stat().st_size > 20_000
        empty = [panel["title"] for panel in told["panels"] if not any(each["values"] for each in panel["series"])]
        assert len(empty) < MAY_BE_EMPTY * len(told["panels"]), f"{name}: {empty}"


def has_past(flowing, monitoring):
    """Whether the sinks were scraped some minutes ago already; until then questions are asked, for the panels to show."""
    flowing()
    return monitoring.query(f"k2_sink_lag_messages offset {MINUTES}m")


def pictured(board, monitoring):
    """A dashboard's panels with their series, as draw.py takes them."""
    end = time.time()
    panels, row = [], ""
    for panel in board["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
            continue
        right = [each["matcher"]["options"].strip("^.*") for each in panel["fieldConfig"]["overrides"]]
        panels.append(
            {
                "title": panel["title"],
                "unit": panel["fieldConfig"]["defaults"]["unit"],
                "row": row,
                "series": [
                    {"name": name, "right": any(name.startswith(each) for each in right), "values": found["values"]}
                    for target in panel["targets"]
                    for found in monitoring.ranges(figures.plain(target["expr"]), end - (MINUTES + 2) * 60, end, STEP)
                    for name in [named(target["legendFormat"], found["metric"])]
                ],
            }
        )
        row = ""
    return {"title": board["title"], "panels": panels}


def named(legend, labels):
    """A series' name as Grafana writes it."""
    for label, value in labels.items():
        legend = legend.replace(f"{{{{{label}}}}}", value)
    return legend


def draw(source, target):
    command = [
        str(Path(sys.executable).with_name("uv")),
        "run",
        "--no-project",
        "--isolated",
        "--with",
        MATPLOTLIB,
        "python",
    ]
    command += [str(Path(__file__).with_name("draw.py")), str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=source.parent)
    assert done.returncode == 0, done.stderr
