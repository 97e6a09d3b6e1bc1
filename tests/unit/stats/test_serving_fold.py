"""Rows of clearml-serving, counted: what is good counts exactly, what is not is counted by what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.files import EXAMPLES
from tests.unit.stats.mutations import between_good_ones, expected
from trainyard_schemas.serving import OVERFLOW, RejectKind, ServingMessage
from trainyard_stats.serving.counters import LATENCY_EDGES_S, Counters, Fold
from trainyard_stats.serving.fold import apply
from trainyard_stats.serving.metric_rules import NO_RULES, Rules, parse_rules

GOLDEN = sorted((EXAMPLES / "clearml_inference_stats").glob("*.json"))
METRICS = {
    "ep/1": {
        "endpoint": "ep/1",
        "metrics": {
            "x0": {"type": "scalar", "buckets": [0, 1, 2.5]},
            "label": {"type": "enum", "buckets": ["neg", "pos"]},
            "temp": {"type": "value", "buckets": None},
            "units": {"type": "counter"},
        },
    }
}


def folded(*values: Any, rules: Rules = NO_RULES, max_endpoints: int = 1_000) -> Counters:
    fold = Fold(Counters(), rules, max_endpoints)
    for value in values:
        apply(fold, value if isinstance(value, bytes | None) else json.dumps(value).encode())
    return fold.counters


def row(**fields: Any) -> dict[str, Any]:
    return {"_latency": 0.01, "_count": 1, "_url": "ep/1"} | {name.replace("s_", "_"): v for name, v in fields.items()}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_golden_messages_are_counted_whole(path: Path) -> None:
    value = path.read_bytes()
    assert folded(value).rejected == {}
    assert folded(value).requests == sum(row.count for row in ServingMessage.model_validate_json(value).root)


def test_each_latency_is_in_its_bucket_and_edges_belong_below() -> None:
    counters = folded([row(_latency=x) for x in (0, 0.005, 0.0051, 10, 10.1)])
    counts = counters.endpoints["ep/1"].latency
    assert counts[0] == 2
    assert counts[1] == 1
    assert counts[len(LATENCY_EDGES_S) - 1] == 1
    assert counts[-1] == 1
    assert counters.endpoints["ep/1"].latency_sum_s == pytest.approx(20.1101)


def test_a_second_message_takes_the_short_cut_to_the_same_counts() -> None:
    one = folded([row(), row(_url="b"), row(_status=500)])
    three = folded(*[[row(), row(_url="b"), row(_status=500)]] * 3)
    assert three.requests == 3 * one.requests == 9
    assert three.endpoints["ep/1"].failures == {"5xx": 3}


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (None, "message_empty"),
        (b"", "message_empty"),
        (b"\xff\xfe[", "message_not_json"),
        (b"[" * 100_000, "message_not_json"),
        (b'[{"_url": "a"', "message_not_json"),
        (b"[" + b"9" * 5_000 + b"]", "message_not_json"),
        ({"_url": "a"}, "message_not_a_list"),
        ("text", "message_not_a_list"),
        ([5], "row_not_an_object"),
        ([[row()]], "row_not_an_object"),
        ([{"_latency": 1.0, "_count": 1}], "url_missing"),
        ([row(_url="")], "url_invalid"),
        ([row(_url=5)], "url_invalid"),
        ([row(_url="a\nb")], "url_invalid"),
        ([row(_url="a\ud800")], "url_invalid"),
        ([row(_url="x" * 201)], "url_invalid"),
        ([row(_latency="abc")], "latency_invalid"),
        ([row(_latency=-1)], "latency_invalid"),
        ([row(_latency=float("nan"))], "latency_invalid"),
        ([row(_latency=float("inf"))], "latency_invalid"),
        ([row(_latency=1e308)], "latency_invalid"),
        ([row(_latency=[0.1])], "latency_invalid"),
        ([row(_latency=True)], "latency_invalid"),
        ([row(_latency=None)], "latency_invalid"),
        ([row(_count=0)], "count_invalid"),
        ([row(_count=-5)], "count_invalid"),
        ([row(_count=10**18)], "count_invalid"),
        ([row(_count=10**30)], "count_invalid"),
        ([row(_count=1.5)], "count_invalid"),
        ([row(_count=True)], "count_invalid"),
        ([row(_status=99)], "status_invalid"),
        ([row(_status="500")], "status_invalid"),
        ([row(_error="")], "error_invalid"),
        ([row(_error=5)], "error_invalid"),
        ([row(_error="a\x00b")], "error_invalid"),
    ],
)
def test_what_is_wrong_is_counted_once_and_what_is_beside_it_counts(message: Any, kind: str) -> None:
    good = [row()]
    counters = folded(good, message, good)
    assert counters.rejected == {RejectKind(kind): 1}
    assert counters.requests == 2
    assert counters.messages == 3
    if isinstance(message, list):
        beside = folded(good, [row(), *message, row()])
        assert beside.rejected == {RejectKind(kind): 1}
        assert beside.requests == 3


def test_quotes_other_scripts_and_escapes_are_names_like_others() -> None:
    urls = ['a"b', "a\\b", "模型/1", "a{b}"]
    assert list(folded([row(_url=url) for url in urls]).endpoints) == urls


def test_failures_are_counted_apart_and_may_lack_a_latency() -> None:
    counters = folded(
        [
            row(_status=200),
            row(_status=422, _error="ValueError"),
            {"_url": "ep/1", "_status": 500},
            {"_url": "ep/1", "_error": "Timeout", "_count": 3},
        ]
    )
    endpoint = counters.endpoints["ep/1"]
    assert sum(endpoint.latency) == 1
    assert endpoint.failures == {"4xx": 1, "5xx": 1, "error": 3}
    assert endpoint.errors == {"ValueError": 1, "Timeout": 3}


def test_names_of_errors_are_capped() -> None:
    endpoint = folded([row(_error=f"E{n}") for n in range(100)]).endpoints["ep/1"]
    assert len(endpoint.errors) == 21
    assert endpoint.errors[OVERFLOW] == 80


def test_a_hundred_thousand_endpoints_are_counted_in_a_bounded_table() -> None:
    counters = folded([row(_url=f"e{n}") for n in range(100_000)], max_endpoints=50)
    assert len(counters.endpoints) == 51
    assert counters.overflow_rows == 99_950
    assert counters.requests == 100_000
    assert sum(counters.endpoints[OVERFLOW].latency) == 99_950


def test_an_endpoint_with_metrics_of_its_own_has_room_in_a_full_table() -> None:
    counters = folded([row(_url="a"), row(_url="ep/1", temp=2)], rules=parse_rules(METRICS), max_endpoints=1)
    assert counters.overflow_rows == 0
    assert counters.endpoints["ep/1"].custom["temp"].total == 2


def test_every_type_of_custom_value_is_counted_and_a_wrong_one_stops_none() -> None:
    rows = [
        row(label="odd", x0=1.0, temp=3.5, units=2),
        row(label="neg", x0=[0.5, 9, "x"], temp=float("nan"), units=-1, unknown=5),
        row(label=["pos", "pos"], x0=True, temp="warm", units=3),
    ]
    counters = folded(rows, rules=parse_rules(METRICS))
    custom = counters.endpoints["ep/1"].custom
    assert custom["x0"].counts == [0, 2, 0, 1]
    assert custom["x0"].total == 10.5
    assert custom["label"].counts == [1, 2]
    assert custom["temp"].total == 3.5
    assert custom["units"].total == 5
    assert counters.rejected == {RejectKind.ENUM_VALUE_UNKNOWN: 1, RejectKind.METRIC_INVALID: 5}
    assert counters.requests == 3


@pytest.mark.parametrize(
    ("frequency", "sent_count", "rows", "requests"),
    [(0.5, 2, 10, 20), (0.7, 1, 7, 10), (0.3, 3, 3, 10), (1.0, 1, 5, 5), (None, 4, 5, 20), (0.3, 1, 5, 5)],
)
def test_a_sampled_row_weighs_what_the_configured_frequency_says(
    frequency: float | None, sent_count: int, rows: int, requests: int
) -> None:
    rules = parse_rules({}, frequency)
    assert folded([row(_count=sent_count)] * rows, rules=rules).requests == pytest.approx(requests)
    own = parse_rules({"ep/1": {"endpoint": "ep/1", "log_frequency": frequency}}, 0.123)
    if frequency is not None:
        assert folded([row(_count=sent_count)] * rows, rules=own).requests == pytest.approx(requests)


def test_other_buckets_begin_anew() -> None:
    fold = Fold(Counters(), parse_rules(METRICS))
    apply(fold, json.dumps([row(x0=1)]).encode())
    fold.use(parse_rules({"ep/1": {"metrics": {"x0": {"type": "scalar", "buckets": [7]}}}}))
    apply(fold, json.dumps([row(x0=8)]).encode())
    assert fold.counters.endpoints["ep/1"].custom["x0"].counts == [0, 1]
    fold.use(NO_RULES)
    apply(fold, json.dumps([row(x0=8)]).encode())
    assert fold.counters.requests == 3


_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=2)
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            _VALUES,
            st.dictionaries(
                st.sampled_from(["_url", "_latency", "_count", "_status", "_error", "x0", "label"]), _VALUES
            ),
        ),
        max_size=6,
    )
)
def test_whatever_is_in_a_message_each_row_is_counted_or_rejected(rows: list[Any]) -> None:
    for rules in (NO_RULES, parse_rules(METRICS)):
        fold = Fold(Counters(), rules)
        apply(fold, json.dumps([row(), *rows, row()]).encode())
        whole = sum(
            n for kind, n in fold.counters.rejected.items() if kind not in ("metric_invalid", "enum_value_unknown")
        )
        counted = fold.counters.requests
        assert counted >= 2 or whole
        if rules is NO_RULES:
            weights = [r["_count"] for r in rows if expected(json.dumps([r]).encode()) is None and "_count" in r]
            ones = [r for r in rows if expected(json.dumps([r]).encode()) is None and "_count" not in r]
            assert counted == 2 + sum(weights) + len(ones)
            assert whole == len(rows) - len(weights) - len(ones)


def test_between_mutated_messages_every_good_one_counts_and_every_bad_one_is_counted_as_bad() -> None:
    found = between_good_ones(20_000, 20_261_125)
    assert found.good_counted == found.good == 10_000
    assert found.bad_counted == found.bad
    assert len(found.bad) > 6
    assert sum(found.bad.values()) > 10_000
