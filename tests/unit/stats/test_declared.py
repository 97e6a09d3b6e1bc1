"""What metric_logging names is shown at 0 before any row; what is counted and stored knows nothing of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from trainyard_schemas.serving import OVERFLOW
from trainyard_stats.metrics import StatsMetrics
from trainyard_stats.run_metrics import Tally
from trainyard_stats.serving.checkpoint import VERSION, Checkpoint, encode
from trainyard_stats.serving.counters import LATENCY_EDGES_S, Counters, Fold
from trainyard_stats.serving.declared import with_declared
from trainyard_stats.serving.fold import apply
from trainyard_stats.serving.metric_rules import NO_RULES, parse_rules

RULES = parse_rules(
    {
        "ep/1": {
            "metrics": {
                "x": {"type": "scalar", "buckets": [1, 2]},
                "label": {"type": "enum", "buckets": ["a", "b"]},
                "units": {"type": "counter"},
                "temp": {"type": "value"},
            }
        },
        "bare/2": {"log_frequency": 0.5},
        "any/*": {"metrics": {"units": {"type": "counter"}}},
        "odd\nname": {"metrics": {"units": {"type": "counter"}}},
    }
)
Samples = dict[tuple[str, ...], float]


def shown(fold: Fold, *, openmetrics: bool = False) -> Samples:
    """The serving samples by name and the labels' values in the order of their names."""
    metrics = StatsMetrics(Tally, serving=lambda: {("d", 0): with_declared(fold)})
    if openmetrics:
        families = list(read_openmetrics(metrics.render_openmetrics().decode()))  # type: ignore[no-untyped-call]
    else:
        families = list(read_text(metrics.render().decode()))
    found: Samples = {}
    for sample in (sample for family in families for sample in family.samples):
        if sample.name.startswith("trainyard_serving_") and "endpoint" in sample.labels:
            key = (sample.name, *(value for _, value in sorted(sample.labels.items())))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def send(fold: Fold, **fields: Any) -> None:
    apply(fold, json.dumps([{"_latency": 0.01, "_count": 1, "_url": "ep/1"} | fields]).encode())


@pytest.mark.parametrize("openmetrics", [False, True])
def test_declared_endpoints_and_their_metrics_are_at_zero_before_any_row(openmetrics: bool) -> None:
    found = shown(Fold(Counters(), RULES), openmetrics=openmetrics)
    assert set(found.values()) == {0}
    named = {(key[0].removeprefix("trainyard_serving_"), key[2]) for key in found}
    latency = {(f"latency_seconds_{part}", e) for part in ("bucket", "count", "sum") for e in ("ep", "bare")}
    assert named == latency | {
        *((f"{family}_total", endpoint) for family in ("requests", "failures") for endpoint in ("ep", "bare")),
        *((f"scalar_{part}", "ep") for part in ("bucket", "count", "sum")),
        ("enum_total", "ep"),
        ("counter_total", "ep"),
    }
    assert sum(key[0] == "trainyard_serving_failures_total" for key in found) == 2 * 3
    assert sum(key[0] == "trainyard_serving_latency_seconds_bucket" for key in found) == 2 * (len(LATENCY_EDGES_S) + 1)


def test_each_series_that_a_first_burst_moves_was_at_zero_before_it() -> None:
    fold = Fold(Counters(), RULES)
    before = shown(fold)
    for _ in range(50):
        send(fold, _status=500, x=1.5, label="b", units=2)
        send(fold)
    after = shown(fold)
    assert set(after) == set(before)
    assert after["trainyard_serving_failures_total", "d", "ep", "0", "5xx", "1"] == 50
    assert after["trainyard_serving_counter_total", "d", "ep", "units", "0", "1"] == 100


def test_a_metric_that_no_row_had_yet_is_at_zero_beside_those_that_were_counted() -> None:
    fold = Fold(Counters(), RULES)
    send(fold, units=3)
    found = shown(fold)
    assert found["trainyard_serving_counter_total", "d", "ep", "units", "0", "1"] == 3
    assert found["trainyard_serving_enum_total", "d", "ep", "label", "0", "a", "1"] == 0
    assert found["trainyard_serving_requests_total", "d", "ep", "0", "1"] == 1
    assert not any(key[0] == "trainyard_serving_value" for key in found)


def test_what_is_stored_and_what_the_cap_counts_is_not_touched() -> None:
    def stored(fold: Fold) -> bytes:
        return encode(Checkpoint(VERSION, "id", 1, "w", 0.0, fold.counters))

    looked_at, left_alone = Fold(Counters(), RULES, max_endpoints=3), Fold(Counters(), RULES, max_endpoints=3)
    for number in range(9):
        for fold in (looked_at, left_alone):
            send(fold, _url=f"e{number % 5}", units=1)
            send(fold, label="a", **({} if number else {"_url": "b"}))
        shown(looked_at)
    assert stored(looked_at) == stored(left_alone)
    assert looked_at.counters.overflow_rows > 0


def test_an_endpoint_that_a_full_table_has_no_room_for_is_not_shown_at_zero() -> None:
    fold = Fold(Counters(), RULES, max_endpoints=1)
    send(fold, _url="other/1")
    assert {key[2] for key in shown(fold)} == {"other", "ep"}, "bare/2 would be counted as (other)"
    send(fold, _url="bare/2")
    found = shown(fold)
    assert found["trainyard_serving_requests_total", "d", OVERFLOW, "0", ""] == 1
    assert not any(key[2] == "bare" for key in found)


def test_without_rules_the_counters_are_shown_as_they_are() -> None:
    fold = Fold(Counters(), NO_RULES)
    send(fold)
    assert with_declared(fold) is fold.counters
