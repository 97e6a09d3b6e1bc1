"""A real Prometheus scrapes the real services; what a panel's query returns is what the raw events say."""

from __future__ import annotations

import json
import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from infra.grafana.panels import DASHBOARDS, RANGE, RATE, RUNS, SERVING, Dashboard

from tests.e2e.conftest import Stack
from tests.e2e.prometheus_process import Prometheus
from tests.e2e.raw_events import Record, attempts_ended, ended, phases
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.sync_client import SyncPublisher

pytestmark = pytest.mark.slow

BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0, 43_200.0)
LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
SERVED = [
    *({"_url": "panels/1", "_latency": round(0.004 * (number % 40 + 1) ** 1.3, 4)} for number in range(120)),
    *({"_url": "panels/1", "_status": status} for status in (422, 500, 500, 503)),
]
SERVED_BEFORE = 2 * SERVED
"""What clearml-serving sends before the range, and as SERVED within it. `rate` guesses when a counter was 0: had a
bucket nothing before, less of the range would be filled in for it than for others."""

Answer = dict[frozenset[tuple[str, str]], float]


@dataclass(frozen=True, slots=True)
class Moment:
    """A time, and the records of runs.lifecycle that Prometheus has seen the counts of by then."""

    at: float
    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class Seen:
    """Two moments with runs between them: a range of the dashboards."""

    first: Moment
    last: Moment

    def ask(self, prometheus: Prometheus, expression: str) -> Answer:
        """A panel's query over the range from the first moment to the last."""
        length = f"{round(self.length_s * 1000)}ms"
        return prometheus.query(expression.replace(RANGE, length).replace(RATE, length), self.last.at)

    @property
    def length_s(self) -> float:
        """Seconds between the moments."""
        return self.last.at - self.first.at

    def ended_between(self) -> Counter[tuple[str, str, str]]:
        return ended(self.last.records) - ended(self.first.records)


def settled(stack: Stack, prometheus: Prometheus) -> Moment:
    """Wait until Prometheus knows as many records as the log holds."""
    give_up_at = time.monotonic() + 60
    while True:
        records = stack.records("runs.lifecycle")
        known = sum(prometheus.query("trainyard_lifecycle_records_total").values())
        if known == len(records):
            return Moment(time.time(), records)
        assert time.monotonic() < give_up_at, f"Prometheus knows of {known} of {len(records)} records"
        time.sleep(0.3)


def serve(stack: Stack, prometheus: Prometheus, rows: list[dict[str, Any]], known: int) -> None:
    """Publish rows as clearml-serving does, and wait until Prometheus knows of so many requests."""
    publisher = SyncPublisher(Address(stack.bootstrap))
    publisher.publish("clearml_inference_stats", json.dumps([{"_count": 1, **row} for row in rows]).encode(), [])
    publisher.close()
    give_up_at = time.monotonic() + 60
    while sum(prometheus.query('trainyard_serving_requests_total{endpoint="panels"}').values()) != known:
        assert time.monotonic() < give_up_at, f"Prometheus does not know of {known} requests"
        time.sleep(0.3)


def let_run(stack: Stack, wine: dict[str, Any], names: list[str], **changes: Any) -> None:
    for name in names:
        stack.publish(json.dumps({**wine, "run_name": name, **changes}).encode())
    stack.ends(lambda data: data.get("run_name") in names, len(names))


@pytest.fixture(scope="module")
def seen(stack: Stack, prometheus: Prometheus) -> Seen:
    root = Path(__file__).parents[2]
    wine = json.loads((root / "examples" / "requests" / "wine-sklearn.json").read_text())
    let_run(stack, wine, ["panels-before-1", "panels-before-2"])
    serve(stack, prometheus, SERVED_BEFORE, len(SERVED_BEFORE))
    first = settled(stack, prometheus)
    let_run(stack, wine, ["panels-1", "panels-2", "panels-3"])
    let_run(stack, wine, ["panels-no-label"], dataset={**wine["dataset"], "label": "no such column"})
    stack.publish(b'{"schema_version": 2, "trainer": "none of ours", "run_name": "panels-refused"}')
    stack.ends(lambda data: data["state"] == "rejected", 1)
    serve(stack, prometheus, SERVED, len(SERVED_BEFORE) + len(SERVED))
    return Seen(first, settled(stack, prometheus))


def labelled(counts: dict[str, float], label: str) -> Answer:
    return {frozenset({(label, value)}): float(count) for value, count in counts.items()}


def without_zeros(answer: Answer) -> Answer:
    return {labels: value for labels, value in answer.items() if value}


def runs_now(seen: Seen, answers: list[Answer]) -> None:
    by_state: Counter[str] = Counter()
    for (state, *_), count in ended(seen.last.records).items():
        by_state[state] += count
    assert without_zeros(answers[0]) == labelled(dict(by_state), "state")


def ended_in_the_range(seen: Seen, answers: list[Answer]) -> None:
    by_state: Counter[str] = Counter()
    for (state, *_), count in seen.ended_between().items():
        by_state[state] += count
    assert by_state == {"completed": 3, "failed": 1, "rejected": 1}
    assert without_zeros(answers[0]) == labelled(dict(by_state), "state")


def attempts_in_the_range(seen: Seen, answers: list[Answer]) -> None:
    by_state = attempts_ended(seen.last.records) - attempts_ended(seen.first.records)
    assert by_state == {"attempt_succeeded": 3, "attempt_failed": 1}
    assert without_zeros(answers[0]) == labelled(dict(by_state), "state")


def unwell_in_the_range(seen: Seen, answers: list[Answer]) -> None:
    expected = {
        frozenset({("trainer", trainer), ("reason", reason)}): float(count)
        for (state, trainer, reason), count in seen.ended_between().items()
        if state in ("failed", "rejected")
    }
    assert len(expected) == 2
    assert without_zeros(answers[0]) == expected


def failed_of_all(seen: Seen, answers: list[Answer]) -> None:
    assert answers[0] == {frozenset(): 0.25}


def seconds_per_phase(seen: Seen, answers: list[Answer]) -> None:
    """Each quantile lies in the bucket of the true one."""
    before, after = phases(seen.first.records), phases(seen.last.records)
    for quantile, answer in zip((0.5, 0.95), answers, strict=True):
        assert {dict(labels)["phase"] for labels in answer} == after.keys()
        for labels, value in answer.items():
            phase = dict(labels)["phase"]
            between = sorted((Counter(after[phase]) - Counter(before[phase])).elements())
            true = between[math.ceil(quantile * len(between)) - 1]
            assert bisect_left(BUCKETS_S, value) == bisect_left(BUCKETS_S, true), (phase, quantile, value, between)


def records_by_verdict(seen: Seen, answers: list[Answer]) -> None:
    assert sum(answers[0].values()) == len(seen.last.records)
    assert all(dict(labels)["verdict"] for labels in answers[0])


def the_one(answer: Answer) -> float:
    """The value of the endpoint that this module serves; the stack's other tests serve others."""
    found = {labels: value for labels, value in answer.items() if ("endpoint", "panels") in labels}
    where = {"deployment": "default", "endpoint": "panels", "version": "1"}
    assert [dict(labels) for labels in found] == [where]
    return next(iter(found.values()))


def requests_per_minute(seen: Seen, answers: list[Answer]) -> None:
    """Prometheus fills the part of the range before the first and after the last scrape in, so within a tenth or so."""
    assert the_one(answers[0]) * seen.length_s / 60 == pytest.approx(len(SERVED), rel=0.2)


def latency(seen: Seen, answers: list[Answer]) -> None:
    true = sorted(row["_latency"] for row in SERVED if "_latency" in row)
    for quantile, answer in zip((0.5, 0.95, 0.99), answers, strict=True):
        wanted = bisect_left(LATENCY_BUCKETS_S, true[math.ceil(quantile * len(true)) - 1])
        assert bisect_left(LATENCY_BUCKETS_S, the_one(answer)) == wanted, (quantile, answer)


def error_rate(seen: Seen, answers: list[Answer]) -> None:
    failed = sum("_status" in row for row in SERVED)
    assert the_one(answers[0]) == pytest.approx(failed / len(SERVED), rel=1e-6)


def mean_latency(seen: Seen, answers: list[Answer]) -> None:
    true = [row["_latency"] for row in SERVED if "_latency" in row]
    assert the_one(answers[0]) == pytest.approx(sum(true) / len(true), rel=1e-6)


def instances(seen: Seen, answers: list[Answer]) -> None:
    """The stack names no control-plane task, so nobody is asked for its instances."""
    assert answers == [{}]


SERVING_ORACLES: dict[str, Callable[[Seen, list[Answer]], None]] = {
    "Requests per minute": requests_per_minute,
    "Latency": latency,
    "Error rate": error_rate,
    "Mean latency": mean_latency,
    "Instances": instances,
}
ORACLES: dict[str, Callable[[Seen, list[Answer]], None]] = {
    "Runs now": runs_now,
    "Ended in the range": ended_in_the_range,
    "Attempts ended in the range": attempts_in_the_range,
    "Failed and rejected in the range, by trainer and reason": unwell_in_the_range,
    "Failed of all that trained": failed_of_all,
    "Seconds per phase": seconds_per_phase,
    "Records of the log, by what became of them": records_by_verdict,
}


@pytest.mark.parametrize("panel", RUNS.panels, ids=lambda panel: panel.title)
def test_a_panel_of_runs_shows_what_the_raw_events_say(panel: Any, seen: Seen, prometheus: Prometheus) -> None:
    ORACLES[panel.title](seen, [seen.ask(prometheus, query.expr) for query in panel.queries])


@pytest.mark.parametrize("panel", SERVING.panels, ids=lambda panel: panel.title)
def test_a_panel_of_serving_shows_what_the_raw_events_say(panel: Any, seen: Seen, prometheus: Prometheus) -> None:
    chosen = [every(query.expr, SERVING) for query in panel.queries]
    SERVING_ORACLES[panel.title](seen, [seen.ask(prometheus, expression) for expression in chosen])


def every(expression: str, dashboard: Dashboard) -> str:
    """The expression with everything chosen in the dashboard's variables."""
    for name, _ in dashboard.variables:
        expression = expression.replace(f"${name}", ".*")
    return expression


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_prometheus_accepts_every_panels_query(dashboard: Any, seen: Seen, prometheus: Prometheus) -> None:
    for panel in dashboard.panels:
        for query in panel.queries:
            seen.ask(prometheus, every(query.expr, dashboard))


def test_the_product_is_healthy_by_its_own_panels_and_rules(seen: Seen, prometheus: Prometheus) -> None:
    assert seen.ask(prometheus, "sum(trainyard_planner_lead)") == {frozenset(): 1.0}
    assert seen.ask(prometheus, "sum(trainyard_worker_registered)") == {frozenset(): 1.0}
    assert seen.ask(prometheus, "max(trainyard_stats_lag_records)") == {frozenset(): 0.0}
    rules = prometheus.rules()
    assert len(rules) > 20
    assert {rule["name"]: rule["lastError"] for rule in rules if rule["health"] == "err"} == {}
    firing = {rule["name"] for rule in rules if rule["type"] == "alerting" and rule["state"] == "firing"}
    assert firing & {"TrainyardTargetDown", "TrainyardNoPlanner", "TrainyardKafkaDown", "TrainyardClearMLDown"} == set()
