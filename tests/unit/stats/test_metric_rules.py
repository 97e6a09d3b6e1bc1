"""metric_logging as clearml-serving writes it, as people write it, and as nobody should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainyard_stats.serving.hocon_reader import read_hocon
from trainyard_stats.serving.metric_rules import MetricKind, MetricSpec, RulesError, parse_rules

WRITTEN = (Path(__file__).parent / "metric_logging.hocon").read_text(encoding="utf-8")
"""What clearml 2.1.12's HOCONConverter writes for three endpoints, one of them with a dot in its key."""


def test_the_text_of_the_control_plane_is_read() -> None:
    rules = parse_rules(read_hocon(WRITTEN), 0.5)
    assert set(rules.endpoints) == {"ep_sk/1", "x/1.0", "a*"}
    assert rules.of("ep_sk/1").metrics == {
        "x0": MetricSpec(MetricKind.SCALAR, (0.0, 1.0, 2.0, 5.0, 10.0)),
        "label": MetricSpec(MetricKind.ENUM, ("neg", "pos")),
        "temp": MetricSpec(MetricKind.VALUE),
        "units": MetricSpec(MetricKind.COUNTER),
    }
    assert rules.of("x/1.0").frequency == 0.7
    assert rules.of("ep_sk/1").frequency == rules.of("any").frequency == 0.5


def test_json_is_read_and_nothing_is_nothing() -> None:
    assert parse_rules(read_hocon('{"a/1": {"metrics": {"x": {"type": "value"}}}}')).of("a/1").metrics
    assert parse_rules(read_hocon("{}")).endpoints == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a { b = [1, 2", "is neither JSON nor HOCON at line 2 col 1"),
        ("{", "is neither JSON nor HOCON"),
        ("", "is neither JSON nor HOCON"),
        ("[" * 5_000, "is neither JSON nor HOCON"),
        ('include "/etc/hostname"', "include"),
        ("a = ${HOME}", "substitution"),
        ("x" * 1_000_001, "the limit is 1,000,000"),
    ],
)
def test_a_text_that_is_none_or_reaches_out_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(RulesError, match=sentence):
        read_hocon(text)


def test_every_beginning_of_the_text_is_read_or_refused() -> None:
    refused = 0
    for end in range(len(WRITTEN)):
        try:
            read_hocon(WRITTEN[:end])
        except RulesError:
            refused += 1
    assert refused > len(WRITTEN) // 2


def _with(**spec: Any) -> dict[str, Any]:
    return {"a/1": {"metrics": {"x": spec}}}


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ([], "metric_logging: is no object"),
        ({"a": 5}, "metric_logging.a: is no object"),
        ({"a": {"endpoint": 5, "metrics": {}}}, "metric_logging.a.endpoint: is no text"),
        ({"a": {"log_frequency": 2}}, "a.log_frequency: is no number from 0 to 1"),
        ({"a": {"log_frequency": True}}, "a.log_frequency"),
        ({"a": {"metrics": []}}, "a.metrics: is no object"),
        ({"a": {"metrics": {str(n): {"type": "value"} for n in range(51)}}}, "has 51, the limit is 50"),
        (_with(type="gauge"), "x.type: is none of scalar, enum, value, counter"),
        (_with(), "x.type"),
        (_with(type="scalar", buckets=None), "x.buckets: is no list of 1 to 100"),
        (_with(type="scalar", buckets=[1, "2"]), "x.buckets: holds something that is no number"),
        (_with(type="scalar", buckets=[float("nan")]), "x.buckets"),
        (_with(type="enum", buckets=[[]]), "neither text nor a number"),
        (_with(type="enum", buckets=["a\nb"]), "neither text nor a number"),
        ({"a": {"metrics": {"_latency": {"type": "value"}}}}, "is a reserved field"),
        ({"a": {"metrics": {"x\n": {"type": "value"}}}}, "control characters"),
        (
            {
                f"e{n}": {"metrics": {f"m{m}": {"type": "scalar", "buckets": [*range(100)]} for m in range(50)}}
                for n in range(2)
            },
            "asks for 10,300 series",
        ),
    ],
)
def test_a_wrong_document_is_refused_by_the_name_of_its_place(document: Any, where: str) -> None:
    with pytest.raises(RulesError, match=where):
        parse_rules(document)


def test_a_frequency_beyond_one_is_refused() -> None:
    with pytest.raises(RulesError, match=r"metric_logging_freq: 1\.5"):
        parse_rules({}, 1.5)
