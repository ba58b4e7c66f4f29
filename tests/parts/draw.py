"""Draws dashboards as Grafana lays them out: `draw.py board.json board.png`. Runs on matplotlib alone (`make test-parts` brings it).

The JSON is `{title, panels: [{title, unit, row, series: [{name, right, values: [[seconds, number], …]}]}]}`; a panel with `row` begins
a new row of that name.
"""

import json
import math
import sys
from datetime import UTC, datetime
from pathlib import Path

from matplotlib import dates
from matplotlib import pyplot as plt

COLUMNS = 3


def places(panels):
    """(line, column) of each panel: a row's name begins a new line."""
    line, column = -1, COLUMNS
    for panel in panels:
        if panel.get("row") or column == COLUMNS:
            line, column = line + 1, 0
        yield line, column
        column += 1


def drawn(axes, panel):
    """One panel."""
    name = f"{panel['row']}  |  {panel['title']}" if panel.get("row") else panel["title"]
    axes.set_title(f"{name}  [{panel['unit']}]", fontsize=9, loc="left")
    beside = axes.twinx() if any(each["right"] for each in panel["series"]) else None
    for number, each in enumerate(panel["series"]):
        moments = [datetime.fromtimestamp(seconds, UTC) for seconds, _ in each["values"]]
        numbers = [float(value) for _, value in each["values"]]
        numbers = [value if math.isfinite(value) else math.nan for value in numbers]
        where = beside if each["right"] else axes
        where.plot(moments, numbers, color=f"C{number % 10}", label=each["name"], linewidth=1, marker=".", markersize=2)
    if not any(each["values"] for each in panel["series"]):
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color="gray")
    else:
        axes.set_ylim(bottom=0)
        lines = [line for part in (axes, beside) if part is not None for line in part.get_lines()]
        axes.legend(handles=lines[:8], fontsize=6, loc="upper left", framealpha=0.6)
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
    axes.tick_params(labelsize=6)
    axes.grid(alpha=0.3)


def main(source, target):
    board = json.loads(Path(source).read_text())
    where = list(places(board["panels"]))
    lines = where[-1][0] + 1
    figure, grid = plt.subplots(lines, COLUMNS, figsize=(COLUMNS * 6, lines * 2.6), squeeze=False)
    for axes in grid.flat:
        axes.set_visible(False)
    for panel, (line, column) in zip(board["panels"], where, strict=True):
        grid[line][column].set_visible(True)
        drawn(grid[line][column], panel)
    figure.suptitle(board["title"], fontsize=12)
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    figure.savefig(target, dpi=90)


if __name__ == "__main__":
    main(*sys.argv[1:])
