"""What the statistics service publishes, declared once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from trainyard_stats.run_metrics import BUCKETS_S, Tally


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


class StatsMetrics:
    """The service's metrics in a registry of their own."""

    def __init__(self, tally: Callable[[], Tally]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_RunCollector(tally))
        ProcessCollector(registry=self._registry)
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

    def render(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)
