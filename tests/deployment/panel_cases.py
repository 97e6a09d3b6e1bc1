"""Series made for every panel, and the numbers that it must show of them, computed by hand.

A sample a minute is looked at after 20 minutes, with a range of 10: `4x10 6x9` is 4 until it begins, and 6 in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from infra.grafana.panels import HEALTH, QUEUES, RUNS, SERVING

AT, RANGE_IS, RATE_IS = "20m", "10m", "5m"
LOG_UP = ("trainyard_stats_log_up", "1x20")
WHERE = 'deployment="blue", endpoint="a", version="1"'
Shown = dict[str, float]


@dataclass(frozen=True, slots=True)
class Case:
    """Series with their samples, and per query of the panel what it must show: value by labels."""

    series: tuple[tuple[str, str], ...]
    shows: tuple[Shown, ...]


def ended(kind: str, samples: str, *, state: str, trainer: str = "sklearn", reason: str = "") -> tuple[str, str]:
    return f'trainyard_{kind}_ended_total{{state="{state}", trainer="{trainer}", reason="{reason}"}}', samples


def buckets(name: str, labels: str, *counts: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((f'{name}_bucket{{{labels}, le="{edge}"}}', samples) for edge, samples in counts)


def served(name: str, samples: str, partition: int = 0, more: str = "") -> tuple[str, str]:
    """A series of one partition, which one replica counts."""
    return f'{name}{{{WHERE}, partition="{partition}", instance="stats-{partition}:9999"{more}}}', samples


HALF_WITHIN_A_SECOND = (("1.0", "0+10x20"), ("3.0", "0+20x20"), ("+Inf", "0+20x20"))
OF_RUNS = {
    "Runs now": Case(
        (
            ('trainyard_runs{state="started", trainer="flaml"}', "2x20"),
            ('trainyard_runs{state="started", trainer="sklearn"}', "1x20"),
            ('trainyard_runs{state="completed", trainer="sklearn"}', "5x20"),
        ),
        ({'{state="started"}': 3, '{state="completed"}': 5},),
    ),
    "Ended in the range": Case(
        (
            LOG_UP,
            ended("runs", "4x10 6x9", state="completed"),
            ended("runs", "_x11 3x9", state="completed", trainer="flaml"),
            ended("runs", "2x20", state="failed", reason="trainer_error"),
            ended("runs", "_x12 1x8", state="rejected", trainer="other", reason="invalid_request"),
        ),
        ({'{state="completed"}': 5, '{state="failed"}': 0, '{state="rejected"}': 1},),
    ),
    "Attempts ended in the range": Case(
        (
            LOG_UP,
            ended("attempts", "_x12 2x8", state="attempt_lost", reason="worker_lost"),
            ended("attempts", "3x10 4x9", state="attempt_lost", trainer="flaml", reason="worker_lost"),
            ended("attempts", "9x10 12x9", state="attempt_succeeded"),
        ),
        ({'{state="attempt_lost"}': 3, '{state="attempt_succeeded"}': 3},),
    ),
    "Failed and rejected in the range, by trainer and reason": Case(
        (
            LOG_UP,
            ended("runs", "1x10 9x9", state="completed"),
            ended("runs", "1x10 3x9", state="failed", reason="trainer_error"),
            ended("runs", "_x12 1x8", state="rejected", trainer="other", reason="invalid_request"),
        ),
        (
            {
                '{trainer="sklearn", reason="trainer_error"}': 2,
                '{trainer="other", reason="invalid_request"}': 1,
            },
        ),
    ),
    "Failed of all that trained": Case(
        (
            LOG_UP,
            ended("runs", "4x10 7x9", state="completed"),
            ended("runs", "2x10 3x9", state="failed", reason="trainer_error"),
            ended("runs", "2x10 9x9", state="cancelled", reason="user"),
        ),
        ({"{}": 0.25},),
    ),
    "Seconds per phase": Case(
        (
            LOG_UP,
            *buckets(
                "trainyard_run_phase_seconds",
                'phase="queue", trainer="sklearn"',
                ("1.0", "5x10 9x9"),
                ("3.0", "5x10 17x9"),
                ("+Inf", "5x10 17x9"),
            ),
            *buckets(
                "trainyard_run_phase_seconds",
                'phase="queue", trainer="flaml"',
                ("1.0", "_x12 6x8"),
                ("3.0", "_x12 8x8"),
                ("+Inf", "_x12 8x8"),
            ),
        ),
        ({'{phase="queue"}': 1.0}, {'{phase="queue"}': 2.8}),
    ),
    "Records of the log, by what became of them": Case(
        (
            ('trainyard_lifecycle_records_total{verdict="won"}', "7x20"),
            ('trainyard_lifecycle_records_total{verdict="noted"}', "2x20"),
        ),
        ({'{verdict="won"}': 7, '{verdict="noted"}': 2},),
    ),
}
OF_QUEUES = {
    "Runs that wait, and why": Case(
        (('trainyard_queue_waiting_runs{queue="gpu", why="no_worker"}', "2x20"),),
        ({'{queue="gpu", why="no_worker"}': 2},),
    ),
    "Longest wait": Case(
        (('trainyard_queue_oldest_wait_seconds{queue="gpu", why="no_worker"}', "30+3x20"),),
        ({'{queue="gpu", why="no_worker"}': 90},),
    ),
    "Workers per queue": Case(
        (
            ('trainyard_queue_workers{queue="cpu", state="busy"}', "1x20"),
            ('trainyard_queue_workers{queue="cpu", state="idle"}', "2x20"),
        ),
        ({'{queue="cpu", state="busy"}': 1, '{queue="cpu", state="idle"}': 2},),
    ),
    "Workers": Case(
        (('trainyard_workers{state="busy"}', "3x20"), ('trainyard_workers{state="idle"}', "2x20")),
        ({'{state="busy"}': 3, '{state="idle"}': 2},),
    ),
    "Entries of ClearML's queues": Case(
        (('trainyard_clearml_queue_entries{queue="cpu"}', "4x20"),), ({'{queue="cpu"}': 4},)
    ),
    "Trainer workers": Case(
        (
            ('trainyard_worker_slots{instance="a"}', "2x20"),
            ('trainyard_worker_slots{instance="b"}', "3x20"),
            ('trainyard_worker_busy{instance="a"}', "1x20"),
            ('trainyard_worker_busy{instance="b"}', "3x20"),
            ('trainyard_worker_registered{instance="a"}', "1x20"),
            ('trainyard_worker_registered{instance="b"}', "0x20"),
        ),
        ({"{}": 5}, {"{}": 4}, {"{}": 1}),
    ),
}
OF_HEALTH = {
    "Answers": Case(
        (('up{job="trainyard-worker", instance="a"}', "1x20"), ('up{job="trainyard-worker", instance="b"}', "0x20")),
        ({'{job="trainyard-worker", instance="a"}': 1, '{job="trainyard-worker", instance="b"}': 0},),
    ),
    "Active planners": Case(
        (('trainyard_planner_lead{instance="a"}', "1x20"), ('trainyard_planner_lead{instance="b"}', "0x20")),
        ({"{}": 1},),
    ),
    "ClearML and Kafka answer": Case((LOG_UP, ("trainyard_clearml_up", "1x20")), ({"{}": 1}, {"{}": 1})),
    "Records behind the log's end": Case(
        (
            ('trainyard_dispatcher_lag_records{consumer="fold", instance="a"}', "3x20"),
            ('trainyard_dispatcher_lag_records{consumer="fold", instance="b"}', "5x20"),
            ('trainyard_consumer_lag_records{group="g", topic="t"}', "7x20"),
            ("trainyard_stats_lag_records", "9x20"),
            ('trainyard_serving_lag_messages{deployment="blue", instance="stats-0:9999"}', "4x20"),
            ('trainyard_serving_lag_messages{deployment="blue", instance="stats-1:9999"}', "6x20"),
        ),
        ({'{consumer="fold"}': 5}, {'{group="g", topic="t"}': 7}, {"{}": 9}, {'{deployment="blue"}': 10}),
    ),
    "Dead letters in the range": Case(
        (
            LOG_UP,
            ('trainyard_dead_letters_total{topic="r"}', "2x10 5x9"),
            ('trainyard_dead_letters_total{topic="s"}', "_x12 1x8"),
        ),
        ({'{topic="r"}': 3, '{topic="s"}': 1},),
    ),
    "Outcomes not acknowledged": Case(
        (
            ('trainyard_worker_outbox_depth{instance="a"}', "3x20"),
            ('trainyard_worker_outbox_depth{instance="b"}', "0x20"),
        ),
        ({'{instance="a"}': 3, '{instance="b"}': 0},),
    ),
    "Planner: actions, p95": Case(
        tuple(
            series
            for instance in "ab"
            for series in buckets(
                "trainyard_planner_action_seconds", f'action="Create", instance="{instance}"', *HALF_WITHIN_A_SECOND
            )
        ),
        ({'{action="Create"}': 2.8},),
    ),
}
OF_SERVING = {
    "Requests per minute": Case(
        (
            served("trainyard_serving_requests_total", "0+30x20"),
            served("trainyard_serving_requests_total", "0+60x20", 1),
        ),
        ({f"{{{WHERE}}}": 90},),
    ),
    "Latency": Case(
        tuple(
            served("trainyard_serving_latency_seconds_bucket", samples, partition, f', le="{edge}"')
            for partition in (0, 1)
            for edge, samples in HALF_WITHIN_A_SECOND
        ),
        ({f"{{{WHERE}}}": 1.0}, {f"{{{WHERE}}}": 2.8}, {f"{{{WHERE}}}": 2.96}),
    ),
    "Error rate": Case(
        (
            served("trainyard_serving_requests_total", "0+30x20"),
            served("trainyard_serving_requests_total", "0+60x20", 1),
            served("trainyard_serving_failures_total", "0+9x20", 1, ', status="5xx"'),
        ),
        ({f"{{{WHERE}}}": 0.1},),
    ),
    "Mean latency": Case(
        (
            served("trainyard_serving_latency_seconds_sum", "0+15x20"),
            served("trainyard_serving_latency_seconds_sum", "0+30x20", 1),
            served("trainyard_serving_latency_seconds_count", "0+60x20"),
            served("trainyard_serving_latency_seconds_count", "0+120x20", 1),
        ),
        ({f"{{{WHERE}}}": 0.25},),
    ),
    "Instances": Case((('trainyard_serving_instances{deployment="blue"}', "2x20"),), ({'{deployment="blue"}': 2},)),
}
CASES = {RUNS.uid: OF_RUNS, QUEUES.uid: OF_QUEUES, HEALTH.uid: OF_HEALTH, SERVING.uid: OF_SERVING}
