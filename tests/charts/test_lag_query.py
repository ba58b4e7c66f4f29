"""The lag that KEDA asks for, evaluated by Prometheus' own tool over series of which each is a case."""

import json
import subprocess

import pytest

from k2_operator.build.autoscaling import lag_query

NAME = "k2-sink-equities-trades-sim-6138ffc2"
# Every half minute, from 0 on.
CASES = {
    "the pods of one sink together": (
        {("markets", f"{NAME}-7d9-abcde"): "40x10", ("markets", f"{NAME}-7d9-fghij"): "2x10"},
        {"2m": 42, "4m": 42},
    ),
    "neither another sink's, nor another namespace's": (
        {
            ("markets", f"{NAME}-7d9-abcde"): "40x10",
            ("markets", "k2-sink-equities-quotes-sim-01234567-7d9-fghij"): "2x10",
            ("desk", f"{NAME}-7d9-abcde"): "2x10",
        },
        {"2m": 40},
    ),
    "a pod that has just started tells the whole topic's, and does not count": (
        {("markets", f"{NAME}-7d9-abcde"): "40x10", ("markets", f"{NAME}-7d9-fghij"): "_x3 40 20x6"},
        {"1m30s": 40, "2m": 40, "2m30s": 60},
    ),
    "a pod that is gone does not count": (
        {("markets", f"{NAME}-7d9-abcde"): "40x10", ("markets", f"{NAME}-7d9-fghij"): "2x3 stale"},
        {"1m30s": 42, "2m": 40},
    ),
    "nothing is known without a pod": ({("markets", f"{NAME}-7d9-abcde"): "40x3 stale"}, {"1m30s": 40, "2m": None}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_lag_is_that_of_the_pods_that_have_settled(case, promtool, tmp_path):
    series, expected = CASES[case]
    asked = lag_query("markets", NAME)
    told = {
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": "30s",
                "input_series": [
                    {
                        "series": f'k2_sink_lag_messages{{namespace="{namespace}",pod="{pod}",topic="t",job="any"}}',
                        "values": values,
                    }
                    for (namespace, pod), values in series.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": asked,
                        "eval_time": at,
                        "exp_samples": [] if value is None else [{"labels": "{}", "value": value}],
                    }
                    for at, value in expected.items()
                ],
            }
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(json.dumps(told))
    done = subprocess.run(
        [str(promtool), "test", "rules", str(file)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
