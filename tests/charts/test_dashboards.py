"""Dashboards follow the rules of a linter: each panel says what it shows, in which unit, from the data source that was chosen."""

import json
import re

import pytest
from k2_testing import charts, figures

NAMES = ("operator", "pipeline", "queries")


@pytest.fixture(scope="module")
def boards(helm):
    return figures.dashboards(charts.render(helm, "k2", "--set", "monitoring.dashboards.enabled=true"))


def all_panels(boards):
    return [(f"{name}: {panel['title']}", panel) for name, board in boards.items() for panel in figures.panels(board)]


def test_there_are_three_and_grafanas_sidecar_finds_them(helm):
    manifests = charts.render(helm, "k2", "--set", "monitoring.dashboards.enabled=true")
    found = [m for m in charts.kind(manifests, "ConfigMap") if "dashboard" in m["metadata"]["name"]]
    assert {m["metadata"]["name"] for m in found} == {f"k2-dashboard-{name}" for name in NAMES}
    for config in found:
        assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert list(config["data"]) == [f"{config['metadata']['name'].replace('-dashboard', '')}.json"]


def test_a_board_has_a_title_a_description_and_an_address_of_its_own(boards):
    assert {board["uid"] for board in boards.values()} == {f"k2-{name}" for name in NAMES}
    for board in boards.values():
        assert board["title"].startswith("K2 / ")
        assert board["description"]
        assert board["editable"] is False


def test_who_looks_chooses_the_data_source_and_the_namespaces(boards):
    for board in boards.values():
        source, namespace = board["templating"]["list"]
        assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
        assert (namespace["name"], namespace["refresh"], namespace["includeAll"]) == ("namespace", 2, True)
    for name, panel in all_panels(boards):
        for each in (panel, *panel["targets"]):
            assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, name
        for target in panel["targets"]:
            for selector in figures.selectors(target["expr"]):
                assert '{namespace=~"$namespace"' in selector, f"{name}: {selector}"


def test_nothing_has_an_id_that_only_one_grafana_knows(boards):
    assert not re.search(r'"(id|__inputs|__requires|gnetId)": (\d|null|\[)', json.dumps(boards))


def test_every_panel_says_what_it_shows_and_in_which_unit(boards):
    titles = [name for name, _ in all_panels(boards)]
    assert len(titles) == len(set(titles))
    for name, panel in all_panels(boards):
        assert panel["description"].endswith("."), name
        assert panel["fieldConfig"]["defaults"]["unit"], name
        assert panel["targets"], name
        assert all(target["legendFormat"] for target in panel["targets"]), name
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]), name


def test_rates_are_taken_over_the_interval_that_fits_the_time_shown(boards):
    for name, panel in all_panels(boards):
        for target in panel["targets"]:
            assert set(re.findall(r"\[([^]]*)\]", target["expr"])) <= {"$__rate_interval"}, name
            for counter in re.findall(r"\bk2_[a-z_]+(?:_total|_bucket|_count|_sum)\b", target["expr"]):
                assert re.search(rf"(rate|increase)\({counter}\{{", target["expr"]), f"{name}: {counter} as it is"


def test_a_burn_is_how_many_times_too_fast_the_budget_goes(boards):
    burns = [(name, panel) for name, panel in all_panels(boards) if "burn" in panel["title"]]
    assert len(burns) == 2
    for name, panel in burns:
        assert panel["fieldConfig"]["defaults"]["unit"] == "short", name
        for target in panel["targets"]:
            assert re.search(r"^k2:\w+:ratio_rate1h\{.*\} / 0\.\d+$", target["expr"]), target["expr"]


def test_panels_lie_side_by_side_within_their_rows(boards):
    for board in boards.values():
        taken = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, panel["title"]
            taken |= cells
