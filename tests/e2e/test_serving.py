"""A run's model behind the unchanged clearml-serving: what its clients got, its topic, /metrics, Prometheus and the
panels say the same."""

from __future__ import annotations

import csv
import json
import math
import time
import urllib.request
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from infra.grafana.panels import RANGE, RATE, SERVING
from prometheus_client.parser import text_string_to_metric_families

from tests.architecture.sources import ROOT
from tests.deployment.image_environment import Yard, configuration, told
from tests.e2e.conftest import Stack
from tests.e2e.prometheus_process import Prometheus
from tests.e2e.serving_process import Inference, Serving
from tests.e2e.test_panels import every
from tests.integration.stats.serving import replica
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.sync_client import SyncReader

pytestmark = pytest.mark.slow

TOPIC = "clearml_inference_stats"
ROUNDS = 25
QUANTILES = (0.5, 0.95, 0.99)
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Model:
    """What a run registered, where it is served, and rows to ask it about."""

    run_id: str
    model_id: str
    endpoint: str
    file: Path
    rows: tuple[dict[str, str], ...]

    def body(self, count: int) -> dict[str, Any]:
        """So many rows, repeated where the file has fewer."""
        return {"records": [self.rows[i % len(self.rows)] for i in range(count)]}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the topic: a request that was answered."""

    endpoint: str
    latency_s: float
    count: int


class Ledger:
    """The rows of our endpoints on clearml-serving's topic, read by a client of its own."""

    def __init__(self, bootstrap: str, endpoints: Sequence[str]) -> None:
        self._reader = SyncReader(Address(bootstrap))
        self._endpoints = endpoints
        self._next = dict(self._reader.beginnings([(TOPIC, 0)]))
        self.rows: list[Row] = []

    def read_until(self, requests: int) -> None:
        """Wait until the rows stand for so many requests: clearml-serving sends them up to 10 s late."""

        def found() -> bool:
            for record in self._reader.read_to_end(self._next):
                self._next[(record.topic, record.partition)] = record.offset + 1
                for row in json.loads(record.value or b"[]"):
                    if row["_url"] in self._endpoints:
                        self.rows.append(Row(row["_url"], row["_latency"], row["_count"]))
            return sum(row.count for row in self.rows) >= requests

        wait_until(found, lambda: f"{len(self.rows)} rows of {requests} requests came")

    def counts(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for row in self.rows:
            found[row.endpoint] += row.count
        return found

    def quantile(self, endpoint: str, quantile: float, since: int = 0) -> float:
        """The true one, of the rows from place `since` on."""
        latencies = sorted(row.latency_s for row in self.rows[since:] if row.endpoint == endpoint)
        return latencies[math.ceil(quantile * len(latencies)) - 1]

    def close(self) -> None:
        self._reader.close()


def wait_until(condition: Callable[[], bool], explain: Callable[[], str]) -> None:
    give_up_at = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < give_up_at, explain()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def models(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> list[Model]:
    """Two runs' models: one tells classes, one numbers."""
    found = []
    for name, example in (("wine", "wine-sklearn"), ("diabetes", "diabetes-flaml")):
        request = json.loads((ROOT / "examples" / "requests" / f"{example}.json").read_text())
        request |= {"run_name": f"serving-{name}", "time_budget_s": 3}
        stack.publish(json.dumps(request).encode())
        end = stack.end_of(f"serving-{name}")
        assert end["state"] == "completed", end
        with (ROOT / request["dataset"]["uri"]).open(newline="") as file:
            rows = list(csv.DictReader(file))[:100]
        for row in rows:
            del row[request["dataset"]["label"]]
        new = tmp_path_factory.mktemp("new") / f"{name}.csv"
        with new.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        found.append(Model(end["run_id"], end["results"]["model"]["id"], f"{name}/1", new, tuple(rows)))
    return found


@pytest.fixture(scope="module")
def serving(stack: Stack, models: list[Model], tmp_path_factory: pytest.TempPathFactory) -> Serving:
    """clearml-serving under the environment that compose gives it, with the stack's addresses; it serves the models."""
    folder = tmp_path_factory.mktemp("serving")
    clearml = stack.status()["clearml"]
    image = Yard(folder).install("clearml-serving")
    given = told(
        image,
        {
            "CLEARML_API_HOST": clearml["api"],
            "CLEARML_WEB_HOST": clearml["api"],
            "CLEARML_FILES_HOST": clearml["files"],
            "CLEARML_API_ACCESS_KEY": clearml["access_key"],
            "CLEARML_API_SECRET_KEY": clearml["secret_key"],
            "CLEARML_DEFAULT_KAFKA_SERVE_URL": stack.bootstrap,
            "HOME": str(folder),
            **configuration(),
        },
    )
    serving = Serving.create(image, given, "e2e")
    for model in models:
        endpoint, _, version = model.endpoint.partition("/")
        serving.add(endpoint, version, model.model_id)
    return serving


@pytest.fixture(scope="module")
def inference(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inference]:
    with serving.started(tmp_path_factory.mktemp("inference")) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was sent and came back. `first` and `last`: moments that Prometheus had everything of, the warm-up before
    `first`; `since`: the place in the ledger where the traffic between them begins."""

    ledger: Ledger
    refused: Counter[int]
    first: float
    last: float
    since: int


def send(inference: Inference, models: list[Model], rounds: int) -> Counter[int]:
    """Good requests of different sizes to every model, and bad ones after them, whose statuses it returns."""
    good = [(model.endpoint, model.body(size)) for _ in range(rounds) for model in models for size in (1, 20, 400)]
    bad = [
        ("nowhere/1", {"records": [{}]}),
        (models[0].endpoint, {"records": "none"}),
        (models[0].endpoint, {"records": [{"a column": 1}]}),
    ]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda one: inference.ask(*one), [*good, *bad]))
    refused = [answer for answer in answers[: len(good)] if answer[0] != 200]
    assert refused == [], inference.written()[-3000:]
    return Counter(status for status, _ in answers[len(good) :])


@pytest.fixture(scope="module")
def traffic(stack: Stack, inference: Inference, models: list[Model], prometheus: Prometheus) -> Iterator[Traffic]:
    ledger = Ledger(stack.bootstrap, [model.endpoint for model in models])

    def known() -> float:
        """When the ledger and Prometheus knew of every request that was answered so far."""
        requests = inference.statuses.count(200)
        ledger.read_until(requests)
        query = "sum(trainyard_serving_requests_total{endpoint=~'wine|diabetes'})"
        wait_until(
            lambda: prometheus.query(query) == {frozenset(): float(requests)},
            lambda: f"Prometheus knows of {prometheus.query(query)}, not of {requests}",
        )
        return time.time()

    send(inference, models, 2 * ROUNDS)
    first, since = known(), len(ledger.rows)
    scraped = "min(timestamp(trainyard_serving_requests_total{endpoint=~'wine|diabetes'}))"
    wait_until(  # the range's first sample is one of before the traffic
        lambda: prometheus.query(scraped)[frozenset()] > first,
        lambda: f"Prometheus scraped at {prometheus.query(scraped)}, not since {first}",
    )
    refused = send(inference, models, ROUNDS)
    yield Traffic(ledger, refused, first, known(), since)
    ledger.close()


def test_the_served_model_says_what_the_model_says(
    stack: Stack, inference: Inference, models: list[Model], tmp_path: Path
) -> None:
    for model in models:
        status, reply = inference.ask(model.endpoint, model.body(len(model.rows)))
        assert status == 200, reply
        out = tmp_path / "predictions.csv"
        done = stack.trainyard("predict", model.run_id, str(model.file), "--out", str(out))
        assert done.returncode == 0, done.stderr
        with out.open(newline="") as file:
            expected = [row["prediction"] for row in csv.DictReader(file)]
        if model.endpoint.startswith("wine"):
            assert [str(value) for value in reply["predictions"]] == expected
        else:
            assert reply["predictions"] == pytest.approx([float(value) for value in expected])


def test_what_is_no_request_is_refused(traffic: Traffic, inference: Inference, models: list[Model]) -> None:
    assert traffic.refused == {404: 1, 422: 2}
    _, said = inference.ask(models[0].endpoint, {"records": [{"a column": 1}]})
    assert "of the model's 13 columns are missing" in said


def samples(stack: Stack, name: str) -> list[tuple[dict[str, str], float]]:
    """The samples of our endpoints in the statistics' /metrics."""
    with urllib.request.urlopen(stack.status()["services"]["stats"]["address"] + "/metrics") as answer:
        text = answer.read().decode()
    return [
        (sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and sample.labels["endpoint"] in ("wine", "diabetes")
    ]


def test_the_statistics_equal_the_rows_that_were_sent(stack: Stack, traffic: Traffic) -> None:
    ledger = traffic.ledger
    shown: Counter[str] = Counter()
    for labels, value in samples(stack, "trainyard_serving_requests_total"):
        shown[f"{labels['endpoint']}/{labels['version']}"] += int(value)
    assert shown == ledger.counts()
    expected: Counter[tuple[str, str]] = Counter()
    buckets: Counter[tuple[str, str]] = Counter()
    for labels, value in samples(stack, "trainyard_serving_latency_seconds_bucket"):
        endpoint = f"{labels['endpoint']}/{labels['version']}"
        buckets[endpoint, labels["le"]] += int(value)
        expected[endpoint, labels["le"]] = sum(
            row.count for row in ledger.rows if row.endpoint == endpoint and row.latency_s <= float(labels["le"])
        )
    assert buckets == expected
    assert len({le for _, le in buckets}) > 10


def test_prometheus_holds_the_true_quantiles_of_all_that_was_sent(prometheus: Prometheus, traffic: Traffic) -> None:
    """Over everything there is no range whose ends have to be guessed: each is in the very bucket of the true one."""
    edges = edges_of(prometheus)
    for quantile in QUANTILES:
        buckets = "sum by (le, endpoint, version) (trainyard_serving_latency_seconds_bucket{endpoint=~'wine|diabetes'})"
        shown = prometheus.query(f"histogram_quantile({quantile}, {buckets})", traffic.last)
        assert len(shown) == 2
        for labels, value in shown.items():
            true = traffic.ledger.quantile(endpoint_of(labels), quantile)
            assert bisect_left(edges, value) == bisect_left(edges, true), (labels, quantile, value, true)


def edges_of(prometheus: Prometheus) -> list[float]:
    found = prometheus.query("count by (le) (trainyard_serving_latency_seconds_bucket)")
    return sorted(float(dict(labels)["le"]) for labels in found)


def endpoint_of(labels: frozenset[tuple[str, str]]) -> str:
    named = dict(labels)
    return f"{named['endpoint']}/{named['version']}"


def panel(title: str, prometheus: Prometheus, traffic: Traffic) -> list[dict[str, float]]:
    """What a panel of the serving dashboard shows for our endpoints between the traffic's moments, query by query."""
    (found,) = [panel for panel in SERVING.panels if panel.title == title]
    length = f"{round((traffic.last - traffic.first) * 1000)}ms"
    shown = []
    for query in found.queries:
        expression = every(query.expr, SERVING).replace(RANGE, length).replace(RATE, length)
        answer = prometheus.query(expression, traffic.last)
        shown.append({endpoint_of(labels): value for labels, value in answer.items()})
    return [{e: v for e, v in one.items() if e in ("wine/1", "diabetes/1")} for one in shown]


def test_the_panels_show_the_traffic_of_their_range(prometheus: Prometheus, traffic: Traffic) -> None:
    """Prometheus guesses what was before the first and after the last scrape of a range; hence the margins."""
    ledger, since = traffic.ledger, traffic.since
    (rates,) = panel("Requests per minute", prometheus, traffic)
    sent = Counter(row.endpoint for row in ledger.rows[since:])
    for endpoint, per_minute in rates.items():
        assert per_minute * (traffic.last - traffic.first) / 60 == pytest.approx(sent[endpoint], rel=0.2)
    edges = edges_of(prometheus)
    latencies = panel("Latency", prometheus, traffic)
    for quantile, shown in zip(QUANTILES, latencies, strict=True):
        for endpoint, value in shown.items():
            true = ledger.quantile(endpoint, quantile, since)
            assert abs(bisect_left(edges, value) - bisect_left(edges, true)) <= 1, (endpoint, quantile, value, true)
    (errors,) = panel("Error rate", prometheus, traffic)
    (means,) = panel("Mean latency", prometheus, traffic)
    for endpoint, mean in means.items():
        spent = [row.latency_s for row in ledger.rows[since:] if row.endpoint == endpoint]
        assert mean == pytest.approx(sum(spent) / len(spent), rel=1e-6)
    assert errors == {"wine/1": 0.0, "diabetes/1": 0.0}
    assert [set(shown) for shown in (rates, means, *latencies)] == [{"wine/1", "diabetes/1"}] * 5


def test_the_terminal_shows_the_same_numbers(stack: Stack, prometheus: Prometheus, traffic: Traffic) -> None:
    done = stack.trainyard("stats", "top", "--once", "--json")
    assert done.returncode == 0, done.stderr
    shown = {f"{one['endpoint']}/{one['version']}": one for one in json.loads(done.stdout)["endpoints"]}
    counts = traffic.ledger.counts()
    assert {endpoint: shown[endpoint]["requests"] for endpoint in counts} == counts
    buckets = "sum by (le, endpoint, version) (trainyard_serving_latency_seconds_bucket{endpoint=~'wine|diabetes'})"
    for quantile in QUANTILES:
        for labels, value in prometheus.query(f"histogram_quantile({quantile}, {buckets})").items():
            assert shown[endpoint_of(labels)][f"p{quantile * 100:.0f}_s"] == pytest.approx(value, rel=1e-9)


def test_instances_are_counted_while_they_serve(
    stack: Stack, serving: Serving, inference: Inference, tmp_path: Path
) -> None:
    """By statistics that know the control plane's task, beside the stack's own. The second one has a home of its own:
    in a shared one the SDK takes up the first one's task."""
    watching = replica(stack.bootstrap, "trainyard.", tmp_path / "stats", TOPIC)
    clearml = {name: value for name, value in serving.environment.items() if name.startswith("CLEARML_")}
    watching.add(**clearml, TRAINYARD_STATS_SERVING_SOURCES=f"watched={TOPIC}", TRAINYARD_STATS_FLEET_POLL_S="1")
    another = replace(serving, environment={**serving.environment, "HOME": str(tmp_path)})

    def instances() -> float | None:
        return watching.samples().get(("trainyard_serving_instances", "watched"))

    try:
        watching.start(CLEARML_SERVING_TASK_ID=serving.task_id)
        watching.until(lambda: instances() == 1, f"{inference.address} is counted")
        with another.started(tmp_path / "another"):
            watching.until(lambda: instances() == 2, "another one is counted")
        watching.until(lambda: instances() == 1, "it has ended")
    finally:
        watching.kill()
