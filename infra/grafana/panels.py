"""What the dashboards show: panels and their queries. `python -m infra.grafana.generate` writes them for Grafana."""

from __future__ import annotations

from dataclasses import dataclass

RANGE = "$__range"
"""Grafana's variable for the length of the time range on show."""

RATE = "$__rate_interval"
"""Grafana's variable for a window that holds several scrapes."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query and the name of its series, where {{label}} is a label's value."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: `kind` is Grafana's type, `unit` Grafana's name of a unit, `width` of 24."""

    title: str
    kind: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 12


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page. `variables` are labels to choose by: their name and the metric that has them."""

    uid: str
    title: str
    panels: tuple[Panel, ...]
    variables: tuple[tuple[str, str], ...] = ()


def once(metric: str, labels: str) -> str:
    """A metric that every replica of the statistics service shows alike, with all its labels: counted once."""
    return f"max by ({labels}) ({metric})" if labels else f"max({metric})"


def grown(metric: str, labels: str, by: str) -> str:
    """By how much counters with these labels grew within the range, exactly.

    `increase` misses what a counter begins with, such as the first run of a trainer. So: minus the value at the range's
    beginning; minus nothing where there was none although we asked; where we did not ask then, minus the least seen.
    """
    now, then = once(metric, labels), once(f"{metric} offset {RANGE}", labels)
    least = once(f"min_over_time({metric}[{RANGE}])", labels)
    asked = once(f"trainyard_stats_log_up offset {RANGE}", "")
    return (
        f"sum by ({by}) ({now})"
        f" - (sum by ({by}) ({then})"
        f" or 0 * sum by ({by}) ({now}) and on () {asked}"
        f" or sum by ({by}) ({least}))"
    )


def _served(metric: str) -> str:
    chosen = 'deployment=~"$deployment", endpoint=~"$endpoint", version=~"$version"'
    return f"{metric}{{{chosen}}}"


def _rate(metric: str, by: str = "deployment, endpoint, version") -> str:
    return f"sum by ({by}) (rate({_served(metric)}[{RATE}]))"


_END = "state, trainer, reason"
_PHASES = grown("trainyard_run_phase_seconds_bucket", "le, phase, trainer", "le, phase")
_UNWELL = 'trainyard_runs_ended_total{state=~"failed|rejected"}'
_FAILED = grown('trainyard_runs_ended_total{state="failed"}', _END, "state")
_TRAINED = grown('trainyard_runs_ended_total{state=~"completed|failed"}', _END, "state")
_LATENCY = _rate("trainyard_serving_latency_seconds_bucket", by="le, deployment, endpoint, version")
_REQUESTS = _rate("trainyard_serving_requests_total")
_WHERE = "{{deployment}} {{endpoint}}/{{version}}"

RUNS = Dashboard(
    "trainyard-runs",
    "Trainyard: runs",
    (
        Panel(
            "Runs now",
            "stat",
            "short",
            (Query(f"sum by (state) ({once('trainyard_runs', 'state, trainer')})", "{{state}}"),),
            24,
        ),
        Panel(
            "Ended in the range",
            "bargauge",
            "short",
            (Query(grown("trainyard_runs_ended_total", _END, "state"), "{{state}}"),),
        ),
        Panel(
            "Attempts ended in the range",
            "bargauge",
            "short",
            (Query(grown("trainyard_attempts_ended_total", _END, "state"), "{{state}}"),),
        ),
        Panel(
            "Failed and rejected in the range, by trainer and reason",
            "table",
            "short",
            (Query(grown(_UNWELL, _END, "trainer, reason"), "{{trainer}} {{reason}}"),),
        ),
        Panel(
            "Failed of all that trained",
            "stat",
            "percentunit",
            (
                Query(
                    f"(sum({_FAILED}) or vector(0)) / (sum({_TRAINED}) > 0)",
                    "failed",
                ),
            ),
        ),
        Panel(
            "Seconds per phase",
            "timeseries",
            "s",
            tuple(
                Query(f"histogram_quantile({quantile}, {_PHASES})", f"{{{{phase}}}} p{quantile * 100:.0f}")
                for quantile in (0.5, 0.95)
            ),
        ),
        Panel(
            "Records of the log, by what became of them",
            "timeseries",
            "short",
            (Query(once("trainyard_lifecycle_records_total", "verdict"), "{{verdict}}"),),
        ),
    ),
)

QUEUES = Dashboard(
    "trainyard-queues",
    "Trainyard: queues and workers",
    (
        Panel(
            "Runs that wait, and why",
            "timeseries",
            "short",
            (Query(once("trainyard_queue_waiting_runs", "queue, why"), "{{queue}} {{why}}"),),
        ),
        Panel(
            "Longest wait",
            "timeseries",
            "s",
            (Query(once("trainyard_queue_oldest_wait_seconds", "queue, why"), "{{queue}} {{why}}"),),
        ),
        Panel(
            "Workers per queue",
            "timeseries",
            "short",
            (Query(once("trainyard_queue_workers", "queue, state"), "{{queue}} {{state}}"),),
        ),
        Panel("Workers", "stat", "short", (Query(once("trainyard_workers", "state"), "{{state}}"),)),
        Panel(
            "Entries of ClearML's queues",
            "timeseries",
            "short",
            (Query(once("trainyard_clearml_queue_entries", "queue"), "{{queue}}"),),
        ),
        Panel(
            "Trainer workers",
            "timeseries",
            "short",
            (
                Query("sum(trainyard_worker_slots)", "slots"),
                Query("sum(trainyard_worker_busy)", "busy"),
                Query("sum(trainyard_worker_registered)", "registered"),
            ),
        ),
    ),
)

HEALTH = Dashboard(
    "trainyard-health",
    "Trainyard: Kafka and health",
    (
        Panel("Answers", "stat", "short", (Query("min by (job, instance) (up)", "{{job}} {{instance}}"),), 24),
        Panel("Active planners", "stat", "short", (Query("sum(trainyard_planner_lead)", "planners"),)),
        Panel(
            "ClearML and Kafka answer",
            "stat",
            "short",
            (Query(once("trainyard_clearml_up", ""), "ClearML"), Query(once("trainyard_stats_log_up", ""), "Kafka")),
        ),
        Panel(
            "Records behind the log's end",
            "timeseries",
            "short",
            (
                Query("max by (consumer) (trainyard_dispatcher_lag_records)", "{{consumer}}"),
                Query(once("trainyard_consumer_lag_records", "group, topic"), "{{group}} {{topic}}"),
                Query(once("trainyard_stats_lag_records", ""), "stats"),
                Query("sum by (deployment) (trainyard_serving_lag_messages)", "serving {{deployment}}"),
            ),
        ),
        Panel(
            "Dead letters in the range",
            "bargauge",
            "short",
            (Query(grown("trainyard_dead_letters_total", "topic", "topic"), "{{topic}}"),),
        ),
        Panel(
            "Outcomes not acknowledged",
            "timeseries",
            "short",
            (Query("sum by (instance) (trainyard_worker_outbox_depth)", "{{instance}}"),),
        ),
        Panel(
            "Planner: actions, p95",
            "timeseries",
            "s",
            (
                Query(
                    "histogram_quantile(0.95,"
                    f" sum by (le, action) (rate(trainyard_planner_action_seconds_bucket[{RATE}])))",
                    "{{action}}",
                ),
            ),
        ),
    ),
)

SERVING = Dashboard(
    "trainyard-serving",
    "Trainyard: model serving",
    (
        Panel("Requests per minute", "timeseries", "short", (Query(f"60 * {_REQUESTS}", _WHERE),), 24),
        Panel(
            "Latency",
            "timeseries",
            "s",
            tuple(
                Query(f"histogram_quantile({quantile}, {_LATENCY})", f"{_WHERE} p{quantile * 100:.0f}")
                for quantile in (0.5, 0.95, 0.99)
            ),
            24,
        ),
        Panel(
            "Error rate",
            "timeseries",
            "percentunit",
            (
                Query(
                    f"({_rate('trainyard_serving_failures_total')} or 0 * {_REQUESTS}) / ({_REQUESTS} > 0)",
                    _WHERE,
                ),
            ),
        ),
        Panel(
            "Mean latency",
            "timeseries",
            "s",
            (
                Query(
                    f"{_rate('trainyard_serving_latency_seconds_sum')}"
                    f" / ({_rate('trainyard_serving_latency_seconds_count')} > 0)",
                    _WHERE,
                ),
            ),
        ),
        Panel(
            "Instances",
            "timeseries",
            "short",
            (Query(once('trainyard_serving_instances{deployment=~"$deployment"}', "deployment"), "{{deployment}}"),),
        ),
    ),
    (
        ("deployment", "trainyard_serving_requests_total"),
        ("endpoint", "trainyard_serving_requests_total"),
        ("version", "trainyard_serving_requests_total"),
    ),
)

DASHBOARDS = (RUNS, QUEUES, HEALTH, SERVING)
