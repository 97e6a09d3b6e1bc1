"""The serving counters as text for Prometheus, in both formats it reads. Pure.

Written here because 10,000 series must not take a scrape 100 ms: `generate_latest` of prometheus_client takes 80 ms of
processor time for them, and 125 ms in OpenMetrics. Its parsers judge what is written here, in the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Final

from trainyard_schemas.serving import OVERFLOW, RejectKind
from trainyard_stats.serving.counters import FAILED_AS, LATENCY_EDGES_S, Counters, Endpoint, Metric, Number
from trainyard_stats.serving.metric_rules import MetricKind


@dataclass(frozen=True, slots=True)
class Family:
    """One metric as it is declared: `kind` is counter, gauge or histogram; the name is without `_total`."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]


_WHERE: Final = ("deployment", "partition", "endpoint", "version")

LATENCY: Final = Family(
    "trainyard_serving_latency_seconds",
    "histogram",
    "Seconds of preprocess, process and postprocess of the requests that succeeded; their number is its _count.",
    _WHERE,
)
FAILURES: Final = Family(
    "trainyard_serving_failures",
    "counter",
    "Requests that failed, where a sender reports them, by status class (4xx, 5xx) or error.",
    (*_WHERE, "status"),
)
ERRORS: Final = Family(
    "trainyard_serving_errors", "counter", "Failed requests by the error's name.", (*_WHERE, "error")
)
REQUESTS: Final = Family("trainyard_serving_requests", "counter", "Requests, succeeded and failed.", _WHERE)
SCALAR: Final = Family(
    "trainyard_serving_scalar",
    "histogram",
    "Custom values of type scalar, in the buckets that metric_logging names.",
    (*_WHERE, "metric"),
)
ENUM: Final = Family(
    "trainyard_serving_enum", "counter", "Custom values of type enum, by value.", (*_WHERE, "metric", "value")
)
VALUE: Final = Family(
    "trainyard_serving_value", "gauge", "Custom values of type value: the last one.", (*_WHERE, "metric")
)
COUNTER: Final = Family(
    "trainyard_serving_counter", "counter", "Custom values of type counter: their sum.", (*_WHERE, "metric")
)
REJECTED: Final = Family(
    "trainyard_serving_rejected",
    "counter",
    "Messages, rows and custom values that were not counted, by what was wrong with them.",
    ("deployment", "partition", "kind"),
)
MESSAGES: Final = Family(
    "trainyard_serving_messages", "counter", "Messages read, good and bad.", ("deployment", "partition")
)
OVERFLOWED: Final = Family(
    "trainyard_serving_overflow_rows",
    "counter",
    "Rows of endpoints that the full table has no room for, counted as endpoint (other).",
    ("deployment", "partition"),
)
SKIPPED: Final = Family(
    "trainyard_serving_skipped_messages",
    "counter",
    "Offsets that were never read: retention took them before they were counted.",
    ("deployment", "partition"),
)
FAMILIES: Final = (
    LATENCY, REQUESTS, FAILURES, ERRORS, SCALAR, ENUM, VALUE, COUNTER, REJECTED, MESSAGES, OVERFLOWED, SKIPPED,
)  # fmt: skip

Parts = Mapping[tuple[str, int], Counters]
"""Counters by deployment and partition."""

# A series that began at its first value would hide that value from `rate`: these are there from the start.
_NO_FAILURES: Final[dict[str, Number]] = dict.fromkeys(FAILED_AS, 0)
_NO_REJECTS: Final = dict.fromkeys(RejectKind, 0)
_VERSION: Final = re.compile(r"v?[0-9]+(?:\.[0-9]+)*")
_EDGES: Final = (*(repr(edge) for edge in LATENCY_EDGES_S), "+Inf")


def split_url(url: str) -> tuple[str, str]:
    """Endpoint and version of a `_url`: its last part is the version where it is a number such as `1` or `v1.2`."""
    endpoint, slash, last = url.rpartition("/")
    return (endpoint, last) if slash and endpoint and _VERSION.fullmatch(last) else (url, "")


def render(parts: Parts, *, openmetrics: bool) -> str:
    """All families and their samples; without the end mark of OpenMetrics."""
    lines: list[str] = []
    for family, samples in _samples(parts):
        name = family.name if openmetrics or family.kind != "counter" else f"{family.name}_total"
        lines += [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
        lines += samples
    return "\n".join(lines) + "\n"


def _samples(parts: Parts) -> Iterator[tuple[Family, Iterable[str]]]:
    known = sorted(parts.items())
    endpoints = [
        (_where(deployment, partition, url), endpoint)
        for (deployment, partition), counters in known
        for url, endpoint in sorted(list(counters.endpoints.items()))  # noqa: C414 - one atomic copy: a thread counts
    ]
    yield LATENCY, [line for where, e in endpoints for line in _latency(where, e)]
    yield REQUESTS, [_line("requests_total", where, _requests(e)) for where, e in endpoints]
    yield (
        FAILURES,
        [
            _line("failures_total", f'{where},status="{status}"', n)
            for where, e in endpoints
            for status, n in (_NO_FAILURES | e.failures.copy()).items()
        ],
    )
    yield (
        ERRORS,
        [
            _line("errors_total", f'{where},error="{_escaped(error)}"', n)
            for where, e in endpoints
            for error, n in sorted(e.errors.copy().items())
        ],
    )
    custom = [
        (f'{where},metric="{_escaped(name)}"', metric)
        for where, e in endpoints
        for name, metric in sorted(e.custom.copy().items())
    ]
    yield SCALAR, [line for where, m in custom if m.kind is MetricKind.SCALAR for line in _scalar(where, m)]
    yield (
        ENUM,
        [
            _line("enum_total", f'{where},value="{_escaped(str(value))}"', n)
            for where, m in custom
            if m.kind is MetricKind.ENUM
            for value, n in zip(m.edges, tuple(m.counts), strict=True)
        ],
    )
    yield VALUE, [_line("value", where, m.total) for where, m in custom if m.kind is MetricKind.VALUE]
    yield COUNTER, [_line("counter_total", where, m.total) for where, m in custom if m.kind is MetricKind.COUNTER]
    places = [(f'deployment="{_escaped(deployment)}",partition="{p}"', c) for (deployment, p), c in known]
    yield (
        REJECTED,
        [
            _line("rejected_total", f'{place},kind="{kind.value}"', n)
            for place, c in places
            for kind, n in (_NO_REJECTS | c.rejected.copy()).items()
        ],
    )
    yield MESSAGES, [_line("messages_total", place, c.messages) for place, c in places]
    yield OVERFLOWED, [_line("overflow_rows_total", place, c.overflow_rows) for place, c in places]
    yield SKIPPED, [_line("skipped_messages_total", place, c.skipped) for place, c in places]


def _latency(where: str, endpoint: Endpoint) -> list[str]:
    return _histogram(LATENCY.name, where, _EDGES, tuple(endpoint.latency), endpoint.latency_sum_s)


def _scalar(where: str, metric: Metric) -> list[str]:
    edges = (*(repr(edge) for edge in metric.edges), "+Inf")
    return _histogram(SCALAR.name, where, edges, tuple(metric.counts), metric.total)


def _histogram(name: str, where: str, edges: tuple[str, ...], counts: tuple[Number, ...], total: Number) -> list[str]:
    """Cumulative buckets; whole numbers, as OpenMetrics asks, also where a sampled row weighs 1.43."""
    summed = [round(n) for n in accumulate(counts)]
    head = f"{name}_bucket{{{where},le="
    lines = [f'{head}"{edge}"}} {n}' for edge, n in zip(edges, summed, strict=True)]
    # OpenMetrics allows no sum beside a bucket below zero, for it might fall, and no count without a sum.
    if not edges[0].startswith("-"):
        lines += [f"{name}_count{{{where}}} {summed[-1]}", f"{name}_sum{{{where}}} {total!r}"]
    return lines


def _requests(endpoint: Endpoint) -> Number:
    return round(sum(tuple(endpoint.latency))) + round(sum(endpoint.failures.copy().values()))


def _line(name: str, where: str, value: Number) -> str:
    return f"trainyard_serving_{name}{{{where}}} {value!r}"


@lru_cache(maxsize=8_192)
def _where(deployment: str, partition: int, url: str) -> str:
    endpoint, version = (url, "") if url == OVERFLOW else split_url(url)
    return (
        f'deployment="{_escaped(deployment)}",partition="{partition}",endpoint="{_escaped(endpoint)}"'
        f',version="{_escaped(version)}"'
    )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
