"""What `metric_logging` declares is shown at 0 from the start: an endpoint's first requests are an increase. Pure.

Added to what is shown, never to what is counted: a checkpoint, the endpoints' cap and the fold know nothing of it. Each
partition that is held shows it, and it moves with the partition, so its series begin at 0 wherever they are.
"""

from __future__ import annotations

from trainyard_schemas.serving import MAX_URL_CHARACTERS
from trainyard_stats.serving.counters import Counters, Endpoint, Fold, Metric
from trainyard_stats.serving.metric_rules import EndpointRule, MetricKind


def with_declared(fold: Fold) -> Counters:
    """The fold's counters to be shown, with the endpoints and custom metrics that its rules name and no row did yet.

    An endpoint for which the full table has no room is left out, as its rows are. A `value` has no value before its
    first one. May be asked while another thread counts.
    """
    counters, rules = fold.counters, fold.rules
    if not rules.endpoints:
        return counters
    shown = counters.endpoints.copy()
    room = fold.max_endpoints - len(shown)
    for url, rule in rules.endpoints.items():
        counted = shown.get(url)
        if counted is not None:
            missing = _empty(rule, counted.custom)
            if missing:
                shown[url] = Endpoint(
                    counted.latency,
                    counted.latency_sum_s,
                    counted.failures,
                    counted.errors,
                    missing | counted.custom.copy(),
                )
        elif _is_full(url) and (rule.metrics or room > 0):
            shown[url] = Endpoint(custom=_empty(rule, {}))
            room -= 1
    return Counters(shown, counters.rejected, counters.messages, counters.overflow_rows, counters.skipped)


def _empty(rule: EndpointRule, counted: dict[str, Metric]) -> dict[str, Metric]:
    return {
        name: Metric.of(spec)
        for name, spec in rule.metrics.items()
        if name not in counted and spec.kind is not MetricKind.VALUE
    }


def _is_full(url: str) -> bool:
    """Whether it is an endpoint's whole name and can be in a row: no pattern, and nothing that would be rejected."""
    return "*" not in url and len(url) <= MAX_URL_CHARACTERS and url.isprintable()
