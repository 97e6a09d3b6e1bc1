"""The serving counters as text: both of Prometheus' readers take them, whatever the labels hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from trainyard_stats.metrics import StatsMetrics
from trainyard_stats.run_metrics import Tally
from trainyard_stats.serving import compatibility
from trainyard_stats.serving.counters import Counters, Fold
from trainyard_stats.serving.exposition import FAMILIES, Parts, split_url
from trainyard_stats.serving.fold import apply
from trainyard_stats.serving.metric_rules import Rules, parse_rules

RULES = parse_rules(
    {
        'we"ird/1': {
            "metrics": {
                "x": {"type": "scalar", "buckets": [-1, 0.5]},
                "y": {"type": "scalar", "buckets": [1]},
                'la"bel': {"type": "enum", "buckets": ["a\\b", 'q"', 5]},
                "t": {"type": "value"},
                "c": {"type": "counter"},
            }
        }
    },
    0.7,
)
ROWS: list[dict[str, Any]] = [
    {"_url": 'we"ird/1', "_latency": 0.2, "x": -3, "y": 2, 'la"bel': 'q"', "t": 1e-9, "c": 7},
    {"_url": "back\\slash", "_latency": 0.2},
    {"_url": "模型/2", "_latency": 11, "_count": 1},
    {"_url": "ep/v1.2", "_status": 503, "_error": 'Odd "name"'},
    {"_url": "a/1", "_latency": 0.001},
    {"_url": "a-1", "_latency": 0.001},
    {"_url": "new\nline", "_latency": 0.001},
]


def families(text: str) -> list[Metric]:
    return list(read_openmetrics(text))  # type: ignore[no-untyped-call]


def counted(rows: list[dict[str, Any]], rules: Rules) -> Counters:
    fold = Fold(Counters(), rules)
    for row in rows:
        apply(fold, json.dumps([row]).encode())
    return fold.counters


def shown(parts: Parts, *, openmetrics: bool, compatibility_names: bool = False) -> dict[tuple[str, ...], float]:
    """Every sample by its name and its labels' values in the order of their names; read by Prometheus' own reader."""
    metrics = StatsMetrics(Tally, serving=lambda: parts, compatibility_names=compatibility_names)
    text = (metrics.render_openmetrics() if openmetrics else metrics.render()).decode()
    found: dict[tuple[str, ...], float] = {}
    for family in families(text) if openmetrics else read_text(text):
        for sample in family.samples:
            key = (sample.name, *(value for _, value in sorted(sample.labels.items())))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize("compatibility_names", [False, True])
def test_both_readers_read_what_was_counted(openmetrics: bool, compatibility_names: bool) -> None:
    parts = {("blue", 0): counted(ROWS, RULES), ("blue", 1): counted(ROWS * 2, RULES), ("green", 0): Counters()}
    found = shown(parts, openmetrics=openmetrics, compatibility_names=compatibility_names)
    where = ("blue", 'we"ird', "0", "1")
    assert found["trainyard_serving_latency_seconds_count", *where] == round(1 / 0.7)
    assert found["trainyard_serving_latency_seconds_bucket", "blue", 'we"ird', "0.1", "0", "1"] == 0
    assert found["trainyard_serving_latency_seconds_bucket", "blue", 'we"ird', "0.25", "0", "1"] == 1
    assert found["trainyard_serving_latency_seconds_sum", *where] == pytest.approx(0.2 / 0.7)
    assert found["trainyard_serving_failures_total", "blue", "ep", "0", "5xx", "v1.2"] == pytest.approx(1 / 0.7)
    assert found["trainyard_serving_requests_total", "blue", "模型", "1", "2"] == 3
    assert found["trainyard_serving_rejected_total", "blue", "url_invalid", "1"] == 2
    assert found["trainyard_serving_rejected_total", "green", "url_invalid", "0"] == 0
    assert found["trainyard_serving_messages_total", "green", "0"] == 0
    assert found["trainyard_serving_enum_total", "blue", 'we"ird', 'la"bel', "0", 'q"', "1"] == pytest.approx(1 / 0.7)
    assert found["trainyard_serving_value", "blue", 'we"ird', "t", "0", "1"] == 1e-9
    assert found["trainyard_serving_scalar_sum", "blue", 'we"ird', "y", "0", "1"] == pytest.approx(2 / 0.7)
    assert ("trainyard_serving_scalar_sum", "blue", 'we"ird', "x", "0", "1") not in found
    if compatibility_names:
        assert found["a_1:_latency_count",] == found["a_1:_count_total",] == round(6 / 0.7)
        assert found["a_1:_latency_bucket", "+Inf"] == found["a_1:_latency_bucket", "0.005"]


def test_the_declared_families_are_what_is_shown() -> None:
    metrics = StatsMetrics(Tally, serving=lambda: {("blue", 0): counted(ROWS, RULES)})
    read = {f.name: f for f in families(metrics.render_openmetrics().decode()) if f.samples}
    for family in FAMILIES:
        if family.name in ("trainyard_serving_value", "trainyard_serving_overflow_rows"):
            continue
        assert family.name in read
        assert read[family.name].type == family.kind
        own = {name for sample in read[family.name].samples for name in sample.labels} - {"le"}
        assert own == set(family.labels), family.name


def test_every_status_class_of_a_known_endpoint_is_there_before_its_first_failure() -> None:
    """`rate` knows nothing of a series' first value: a first burst of 50 failures was no failure at all."""
    rows: list[dict[str, Any]] = [{"_url": "a", "_latency": 0.1}]

    def failures(rows: list[dict[str, Any]]) -> dict[str, float]:
        found = shown({("blue", 0): counted(rows, RULES)}, openmetrics=False)
        return {key[4]: value for key, value in found.items() if key[0] == "trainyard_serving_failures_total"}

    assert failures(rows) == {"4xx": 0, "5xx": 0, "error": 0}
    rows += [{"_url": "a", "_status": 503}, {"_url": "a", "_error": "Timeout"}, {"_url": "a", "_error": "X"}]
    assert failures(rows) == pytest.approx({"4xx": 0, "5xx": 1 / 0.7, "error": 2 / 0.7})


def test_counts_of_sampled_rows_are_whole_and_never_fall_from_bucket_to_bucket() -> None:
    rows = [{"_url": "a", "_latency": n / 100} for n in range(100)]
    found = shown({("blue", 0): counted(rows, RULES)}, openmetrics=True)
    buckets = [v for k, v in found.items() if k[0] == "trainyard_serving_latency_seconds_bucket"]
    assert buckets == sorted(buckets)
    assert all(value == int(value) for value in buckets)
    assert buckets[-1] == 143


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("ep/1", ("ep", "1")),
        ("ep/v1.2", ("ep", "v1.2")),
        ("team/model", ("team/model", "")),
        ("team/model/3", ("team/model", "3")),
        ("ep", ("ep", "")),
        ("/1", ("/1", "")),
        ("1", ("1", "")),
        ("ep/", ("ep/", "")),
    ],
)
def test_a_url_is_split_where_its_last_part_is_a_version(url: str, parts: tuple[str, str]) -> None:
    assert split_url(url) == parts
    assert "/".join(part for part in parts if part) == url


def test_the_peers_names_are_names_for_prometheus() -> None:
    assert compatibility.name_of("ep(x)/1", "_latency") == "ep_x__1:_latency"
    assert compatibility.name_of("1/a", "_count") == "_1_a:_count"
