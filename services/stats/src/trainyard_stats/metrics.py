"""What the statistics service publishes, declared once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from trainyard_stats.fleet import Fleet, Waiting, Why
from trainyard_stats.run_metrics import BUCKETS_S, Tally
from trainyard_stats.serving import compatibility, exposition

_END_MARK = b"# EOF\n"
_OVER_REPLICAS = {"trainyard_serving_lag_messages": "sum", "trainyard_serving_metric_logging_ok": "min"}
_OF_GAUGES = dict.fromkeys(
    (
        "trainyard_serving_up",
        "trainyard_serving_lag_messages",
        "trainyard_serving_metric_logging_ok",
        "trainyard_serving_stats_disabled",
    ),
    ("deployment",),
)


class _RunCollector(Collector):
    """The tally as Prometheus' families, made anew for every scrape: the tally is the only place that counts."""

    def __init__(self, tally: Callable[[], Tally]) -> None:
        self._tally = tally

    def collect(self) -> Iterator[Metric]:
        tally = self._tally()
        runs = GaugeMetricFamily("trainyard_runs", "Runs by state, now.", labels=("state", "trainer"))
        for (state, trainer), count in sorted(tally.runs.items()):
            runs.add_metric((state, trainer), count)
        yield runs
        ended = CounterMetricFamily(
            "trainyard_runs_ended", "Runs that have ended.", labels=("state", "trainer", "reason")
        )
        for labels, count in sorted(tally.ended.items()):
            ended.add_metric(labels, count)
        yield ended
        attempts = CounterMetricFamily(
            "trainyard_attempts_ended",
            "Attempts that have ended, also where the run is tried again: attempt_lost is one whose worker was lost.",
            labels=("state", "trainer", "reason"),
        )
        for labels, count in sorted(tally.attempts.items()):
            attempts.add_metric(labels, count)
        yield attempts
        phases = HistogramMetricFamily(
            "trainyard_run_phase_seconds",
            "Seconds of the parts of a run's life: dispatch (until the task is made), queue (until a worker has it),"
            " training (until the attempt ends), total.",
            labels=("phase", "trainer"),
        )
        edges = [*(repr(edge) for edge in BUCKETS_S), "+Inf"]
        for part, durations in sorted(tally.phases.items()):
            phases.add_metric(part, list(zip(edges, accumulate(durations.counts), strict=True)), durations.sum_s)
        yield phases
        records = CounterMetricFamily(
            "trainyard_lifecycle_records", "Records of runs.lifecycle by what became of them.", labels=("verdict",)
        )
        for verdict, count in sorted(tally.records.items()):
            records.add_metric((verdict,), count)
        yield records


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the last look at Kafka and ClearML found; None where there was no answer: then nothing is shown of it."""

    now: float = 0.0
    fleet: Fleet | None = None
    waiting: Mapping[tuple[str, Why], Waiting] = field(default_factory=dict)
    lags: Mapping[tuple[str, str], int] = field(default_factory=dict)
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    instances: Mapping[str, int] = field(default_factory=dict)


class _SurroundingsCollector(Collector):
    def __init__(self, look: Callable[[], Surroundings]) -> None:
        self._look = look

    def collect(self) -> Iterator[Metric]:
        found = self._look()
        runs = GaugeMetricFamily(
            "trainyard_queue_waiting_runs",
            "Runs that wait, by queue (empty where none is chosen yet) and by why: backlog, retry, no_worker,"
            " workers_busy, starting, queued.",
            labels=("queue", "why"),
        )
        oldest = GaugeMetricFamily(
            "trainyard_queue_oldest_wait_seconds", "How long the run that waits longest does.", labels=("queue", "why")
        )
        for (queue, why), waiting in sorted(found.waiting.items()):
            runs.add_metric((queue, why.value), waiting.runs)
            oldest.add_metric((queue, why.value), max(0.0, found.now - waiting.oldest_at))
        yield from (runs, oldest)
        yield from _fleet(found.fleet, found.now)
        lag = GaugeMetricFamily(
            "trainyard_consumer_lag_records",
            "Records that are there and that a consumer group of ours has not committed.",
            labels=("group", "topic"),
        )
        for place, count in sorted(found.lags.items()):
            lag.add_metric(place, count)
        yield lag
        dead = CounterMetricFamily(
            "trainyard_dead_letters", "Records written to a dead-letter topic, by Kafka's offsets.", labels=("topic",)
        )
        for topic, count in sorted(found.dead_letters.items()):
            dead.add_metric((topic,), count)
        yield dead
        instances = GaugeMetricFamily(
            "trainyard_serving_instances",
            "Instances of clearml-serving that ClearML hears of, where the deployment's control-plane task is named.",
            labels=("deployment",),
        )
        for deployment, count in sorted(found.instances.items()):
            instances.add_metric((deployment,), count)
        yield instances


def _fleet(fleet: Fleet | None, now: float) -> Iterator[Metric]:
    yield GaugeMetricFamily("trainyard_clearml_up", "1 while ClearML answers.", value=0 if fleet is None else 1)
    entries = GaugeMetricFamily(
        "trainyard_clearml_queue_entries", "Tasks in a ClearML queue, ours and others.", labels=("queue",)
    )
    oldest = GaugeMetricFamily(
        "trainyard_clearml_queue_oldest_entry_seconds", "How long a queue's first task waits.", labels=("queue",)
    )
    serving = GaugeMetricFamily(
        "trainyard_queue_workers",
        "Workers that serve a queue now, by whether they have a task.",
        labels=("queue", "state"),
    )
    workers = GaugeMetricFamily(
        "trainyard_workers", "Workers that ClearML hears of, by whether they have a task.", labels=("state",)
    )
    if fleet is not None:
        for queue, look in sorted(fleet.queues.items()):
            entries.add_metric((queue,), look.entries)
            oldest.add_metric((queue,), max(0.0, now - look.oldest_at) if look.oldest_at is not None else 0.0)
        for queue, (online, busy) in sorted(fleet.workers.items()):
            serving.add_metric((queue, "busy"), busy)
            serving.add_metric((queue, "idle"), online - busy)
        workers.add_metric(("busy",), fleet.busy)
        workers.add_metric(("idle",), fleet.online - fleet.busy)
    yield from (entries, oldest, serving, workers)


@dataclass(frozen=True, slots=True, order=True)
class Declaration:
    """A metric of ours: its name as it is shown, and by which of sum, max and min to take it over several replicas."""

    name: str
    kind: str
    labels: tuple[str, ...]
    sentence: str
    over_replicas: str


def _declaration(name: str, kind: str, labels: tuple[str, ...], sentence: str) -> Declaration:
    """Replicas share the partitions of clearml-serving's topics, so those are summed; all else each of them tells."""
    shared_out = "partition" in labels and kind != "gauge"
    shown = f"{name}_total" if kind == "counter" else name
    return Declaration(shown, kind, labels, sentence, _OVER_REPLICAS.get(name, "sum" if shared_out else "max"))


class StatsMetrics:
    """The service's metrics in a registry of their own, and the serving counters beside it."""

    def __init__(
        self,
        tally: Callable[[], Tally],
        surroundings: Callable[[], Surroundings] = Surroundings,
        serving: Callable[[], exposition.Parts] = dict,
        *,
        compatibility_names: bool = False,
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_RunCollector(tally))
        self._registry.register(_SurroundingsCollector(surroundings))
        ProcessCollector(registry=self._registry)
        self._serving = serving
        self._compatibility_names = compatibility_names
        self.lag = Gauge(
            "trainyard_stats_lag_records",
            "Records of runs.lifecycle that were there at the last look and are not counted yet.",
            registry=self._registry,
        )
        self.skipped = Gauge(
            "trainyard_stats_skipped_records",
            "Offsets that retention had deleted before they were counted, at this process's start.",
            registry=self._registry,
        )
        self.up = Gauge(
            "trainyard_stats_log_up", "1 while Kafka answers the statistics service.", registry=self._registry
        )
        self.serving_up = Gauge(
            "trainyard_serving_up",
            "1 while this replica takes part in counting the deployment.",
            labelnames=("deployment",),
            registry=self._registry,
        )
        self.serving_lag = Gauge(
            "trainyard_serving_lag_messages",
            "Messages of clearml-serving that this replica has to count and has not counted yet.",
            labelnames=("deployment",),
            registry=self._registry,
        )
        self.rules_ok = Gauge(
            "trainyard_serving_metric_logging_ok",
            "1 while the deployment's last metric_logging that was read is in use.",
            labelnames=("deployment",),
            registry=self._registry,
        )
        self.switched_off = Gauge(
            "trainyard_serving_stats_disabled",
            "1 while the deployment's metric_logging_freq is 0: clearml-serving sends no statistics then.",
            labelnames=("deployment",),
            registry=self._registry,
        )

    def render(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry) + self._served(openmetrics=False)

    def render_openmetrics(self) -> bytes:
        """The OpenMetrics format."""
        ours = bytes(generate_openmetrics(self._registry)).removesuffix(_END_MARK)  # type: ignore[no-untyped-call]
        return ours + self._served(openmetrics=True) + _END_MARK

    def declared(self) -> list[Declaration]:
        """Every metric of ours, by name. For the documentation, and for whoever checks queries."""
        found = [_declaration(f.name, f.kind, f.labels, f.help) for f in exposition.FAMILIES]
        for metric in self._registry.collect():
            if metric.name.startswith("trainyard_"):
                labels = tuple(getattr(metric, "_labelnames", ())) or _OF_GAUGES.get(metric.name, ())
                found.append(_declaration(metric.name, metric.type, labels, metric.documentation))
        return sorted(found)

    def _served(self, *, openmetrics: bool) -> bytes:
        parts = self._serving()
        text = exposition.render(parts, openmetrics=openmetrics)
        if self._compatibility_names:
            text += compatibility.render(parts, openmetrics=openmetrics)
        return text.encode()
