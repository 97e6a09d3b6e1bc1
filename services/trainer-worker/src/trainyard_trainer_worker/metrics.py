"""What the worker measures, declared once."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

PHASE_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200)


class WorkerMetrics:
    """The worker's metrics in a registry of their own; `render` gives Prometheus' text."""

    def __init__(self, slots: int, outbox_depth: Callable[[], float], registered: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.slots = Gauge("trainyard_worker_slots", "Attempts that can run at a time.", registry=self._registry)
        self.busy = Gauge("trainyard_worker_busy", "Popped tasks being handled now.", registry=self._registry)
        self.handled = Counter(
            "trainyard_worker_tasks",
            "Popped tasks by what became of them (protocol.Handled).",
            ("result",),
            registry=self._registry,
        )
        self.phase_seconds = Histogram(
            "trainyard_worker_phase_seconds",
            "Wall time of an attempt's phases.",
            ("phase",),
            buckets=PHASE_BUCKETS_S,
            registry=self._registry,
        )
        depth = Gauge("trainyard_worker_outbox_depth", "Outcomes not acknowledged yet.", registry=self._registry)
        depth.set_function(outbox_depth)
        known = Gauge(
            "trainyard_worker_registered",
            "1 while ClearML knows this worker, with all its slots.",
            registry=self._registry,
        )
        known.set_function(registered)
        self.slots.set(slots)

    def phase(self, name: str, seconds: float) -> None:
        """A phase of an attempt ended."""
        self.phase_seconds.labels(name).observe(seconds)

    def render(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)
