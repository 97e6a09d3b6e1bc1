"""The dispatcher's metrics, declared once. Names end in their unit; `_total` are counters since the process began."""

from __future__ import annotations

from collections import Counter as Counts

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from trainyard_dispatcher.run_index import RunIndex
from trainyard_schemas.vocabulary import RunPhase

_LATENCY_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0)


class DispatcherMetrics:
    """One process's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "trainyard_requests", "Records of runs.requested that were answered.", registry=self._registry
        )
        self.accepted = Counter(
            "trainyard_requests_accepted", "Requests answered with run.accepted.", registry=self._registry
        )
        self.rejected = Counter(
            "trainyard_requests_rejected",
            "Requests answered with run.rejected and a dead letter.",
            ["reason", "detail"],
            registry=self._registry,
        )
        self.folded = Gauge(
            "trainyard_lifecycle_records_folded",
            "Records of runs.lifecycle since the process began, by what the fold made of them.",
            ["verdict"],
            registry=self._registry,
        )
        self.runs = Gauge("trainyard_dispatcher_runs", "Runs in memory, by phase.", ["phase"], registry=self._registry)
        self.standing = Gauge(
            "trainyard_dispatcher_queue_runs",
            "Runs that are dispatched to a ClearML queue and not started.",
            ["queue"],
            registry=self._registry,
        )
        self.conflicts = Gauge(
            "trainyard_dispatcher_conflicts", "Requests that await the answer to a conflict.", registry=self._registry
        )
        self.lead = Gauge(
            "trainyard_planner_lead", "1 where this process is the active planner, else 0.", registry=self._registry
        )
        self.actions = Histogram(
            "trainyard_planner_action_seconds",
            "How long the planner's actions took.",
            ["action"],
            buckets=_LATENCY_S,
            registry=self._registry,
        )
        self.actions_under_way = Gauge(
            "trainyard_planner_actions_under_way", "Actions of the planner under way.", registry=self._registry
        )
        self.plan_s = Histogram(
            "trainyard_planner_plan_seconds", "How long one plan took.", buckets=_LATENCY_S, registry=self._registry
        )
        self.lag = Gauge(
            "trainyard_dispatcher_lag_records",
            "Records that a consumer is behind the log's end, as last looked at.",
            ["consumer"],
            registry=self._registry,
        )
        self.copied = Counter(
            "trainyard_completed_copied", "Terminal events copied to runs.completed.", registry=self._registry
        )
        self.commands = Counter(
            "trainyard_commands",
            "Records of runs.commands that were answered, by what became of them.",
            ["result"],
            registry=self._registry,
        )
        self.surveys = Counter("trainyard_planner_surveys", "Looks at ClearML's tasks.", registry=self._registry)
        self.clearml_up = Gauge(
            "trainyard_clearml_up", "1 where ClearML answered the last probe, else 0.", registry=self._registry
        )

    def show_index(self, index: RunIndex) -> None:
        """Set what is read off the fold."""
        for verdict, count in index.verdicts.items():
            self.folded.labels(verdict.value).set(count)
        self.folded.labels("unreadable").set(index.unreadable)
        self.folded.labels("foreign_conflict").set(index.foreign_conflicts)
        phases = Counts(state.phase for state in index.states.values())
        for phase in RunPhase:
            self.runs.labels(phase.value).set(phases[phase])
        self.standing.clear()
        standing = Counts(s.queue or "" for s in index.states.values() if s.phase is RunPhase.DISPATCHED)
        for queue, count in standing.items():
            self.standing.labels(queue).set(count)
        self.conflicts.set(len(index.conflicts))

    def text(self) -> bytes:
        """All of it as Prometheus text."""
        return generate_latest(self._registry)
