"""What `stats top` shows, from two looks at the metrics. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainyard_stats.top.quantiles import histogram_quantile

QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a metric."""

    labels: Mapping[str, str]
    value: float


Samples = Mapping[str, list[Sample]]
"""Samples by their name, such as `trainyard_runs`."""


@dataclass(frozen=True, slots=True)
class Look:
    """The metrics at a time, in seconds on a clock that only runs forward."""

    at: float
    samples: Samples


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A deployed endpoint. `per_minute` and `failed` (a share) are of the window; so are the quantiles, in seconds,
    where requests came in it, and else of all that was counted (`is_recent` false)."""

    deployment: str
    endpoint: str
    version: str
    requests: int
    per_minute: float
    failed: float | None
    quantiles_s: tuple[float | None, ...]
    is_recent: bool


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue: how many runs wait and why, how long the oldest does in seconds, and its workers by state."""

    name: str
    waiting: Mapping[str, int]
    oldest_wait_s: float
    workers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class View:
    """Everything that is shown. `window_s`: seconds between the two looks; None for `up`: not told."""

    window_s: float
    endpoints: tuple[Endpoint, ...]
    runs: Mapping[str, int]
    queues: tuple[Queue, ...]
    workers: Mapping[str, int]
    lags: Mapping[str, int]
    dead_letters: Mapping[str, int]
    rejected_rows: int
    clearml_is_up: bool | None
    log_is_up: bool | None

    def as_json(self) -> dict[str, Any]:
        """The same as JSON: one object."""
        return {
            "window_s": round(self.window_s, 3),
            "endpoints": [
                {
                    "deployment": one.deployment,
                    "endpoint": one.endpoint,
                    "version": one.version,
                    "requests": one.requests,
                    "requests_per_minute": round(one.per_minute, 3),
                    "failed_share": one.failed,
                    **{f"p{q * 100:.0f}_s": value for q, value in zip(QUANTILES, one.quantiles_s, strict=True)},
                    "quantiles_of": "window" if one.is_recent else "all",
                }
                for one in self.endpoints
            ],
            "runs": dict(self.runs),
            "queues": [
                {
                    "queue": queue.name,
                    "waiting": dict(queue.waiting),
                    "oldest_wait_s": queue.oldest_wait_s,
                    "workers": dict(queue.workers),
                }
                for queue in self.queues
            ],
            "workers": dict(self.workers),
            "lag_records": dict(self.lags),
            "dead_letters": dict(self.dead_letters),
            "rejected_rows": self.rejected_rows,
            "clearml_up": self.clearml_is_up,
            "log_up": self.log_is_up,
        }


def view(before: Look, now: Look) -> View:
    """What is to be seen at `now`, with the rates since `before`; busy endpoints first."""
    window_s = max(now.at - before.at, 1e-9)
    then, counted = _Counted.of(before.samples), _Counted.of(now.samples)
    endpoints = (_endpoint(key, then, counted, window_s) for key in counted.requests)
    return View(
        window_s,
        tuple(sorted(endpoints, key=lambda e: (-e.per_minute, -e.requests, e.deployment, e.endpoint, e.version))),
        _whole(_summed(now.samples, "trainyard_runs", "state")),
        tuple(_queues(now.samples)),
        _whole(_summed(now.samples, "trainyard_workers", "state")),
        _lags(now.samples),
        _whole(_summed(now.samples, "trainyard_dead_letters_total", "topic")),
        int(sum(sample.value for sample in now.samples.get("trainyard_serving_rejected_total", ()))),
        _flag(now.samples, "trainyard_clearml_up"),
        _flag(now.samples, "trainyard_stats_log_up"),
    )


Key = tuple[str, str, str]


def _key(sample: Sample) -> Key:
    return (sample.labels["deployment"], sample.labels["endpoint"], sample.labels["version"])


@dataclass(frozen=True, slots=True)
class _Counted:
    """What was counted of every endpoint, over all partitions."""

    requests: Mapping[Key, float]
    failures: Mapping[Key, float]
    buckets: Mapping[Key, Mapping[float, float]]

    @classmethod
    def of(cls, samples: Samples) -> _Counted:
        def total(name: str) -> dict[Key, float]:
            found: dict[Key, float] = defaultdict(float)
            for sample in samples.get(name, ()):
                found[_key(sample)] += sample.value
            return found

        buckets: dict[Key, dict[float, float]] = defaultdict(lambda: defaultdict(float))
        for sample in samples.get("trainyard_serving_latency_seconds_bucket", ()):
            buckets[_key(sample)][float(sample.labels["le"])] += sample.value
        return cls(total("trainyard_serving_requests_total"), total("trainyard_serving_failures_total"), buckets)


def _endpoint(key: Key, before: _Counted, now: _Counted, window_s: float) -> Endpoint:
    new = _gained(before.requests.get(key, 0.0), now.requests[key])
    failed = _gained(before.failures.get(key, 0.0), now.failures.get(key, 0.0))
    buckets, old_buckets = now.buckets.get(key, {}), before.buckets.get(key, {})
    gained = {edge: _gained(old_buckets.get(edge, 0.0), count) for edge, count in buckets.items()}
    is_recent = gained.get(math.inf, 0.0) > 0
    chosen = gained if is_recent else buckets
    return Endpoint(
        *key,
        int(now.requests[key]),
        60.0 * new / window_s,
        failed / new if new > 0 else None,
        tuple(histogram_quantile(quantile, chosen) for quantile in QUANTILES),
        is_recent,
    )


def _gained(before: float, now: float) -> float:
    """What a counter gained; one that fell began anew."""
    return now - before if now >= before else now


def _summed(samples: Samples, name: str, label: str) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for sample in samples.get(name, ()):
        found[sample.labels[label]] += sample.value
    return found


def _whole(counts: Mapping[str, float]) -> dict[str, int]:
    return {name: int(count) for name, count in sorted(counts.items()) if count}


def _queues(samples: Samples) -> Iterable[Queue]:
    waiting = samples.get("trainyard_queue_waiting_runs", ())
    oldest = samples.get("trainyard_queue_oldest_wait_seconds", ())
    workers = samples.get("trainyard_queue_workers", ())
    for name in sorted({sample.labels["queue"] for sample in (*waiting, *workers)}):
        yield Queue(
            name,
            _whole({s.labels["why"]: s.value for s in waiting if s.labels["queue"] == name}),
            max((sample.value for sample in oldest if sample.labels["queue"] == name), default=0.0),
            _whole({s.labels["state"]: s.value for s in workers if s.labels["queue"] == name}),
        )


def _lags(samples: Samples) -> dict[str, int]:
    found = _whole(_summed(samples, "trainyard_consumer_lag_records", "group"))
    serving = _whole(_summed(samples, "trainyard_serving_lag_messages", "deployment"))
    found |= {f"serving {deployment}": lag for deployment, lag in serving.items()}
    own = int(sum(sample.value for sample in samples.get("trainyard_stats_lag_records", ())))
    return found | ({"statistics": own} if own else {})


def _flag(samples: Samples, name: str) -> bool | None:
    found = samples.get(name)
    return None if not found else found[0].value == 1
