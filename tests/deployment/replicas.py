"""What several replicas of the statistics service mean for queries: what each of them tells must be counted once."""

from __future__ import annotations

import re
from typing import Any

from trainyard_stats.metrics import Declaration, StatsMetrics
from trainyard_stats.run_metrics import Tally

DECLARED: dict[str, Declaration] = {metric.name: metric for metric in StatsMetrics(Tally).declared()}
_PART = re.compile(r"_(bucket|sum|count)$")
_NAME = re.compile(r"\btrainyard_[a-z0-9_]+")
_AGGREGATED = re.compile(
    r"\b(?P<by>sum|max|min|avg|count)(?: by \((?P<labels>[^()]*)\) )?\((?:(?:rate|increase|[a-z]+_over_time)\()?$"
)


def family_of(name: str) -> Declaration | None:
    """The statistics service's metric that a series belongs to, None for other services' series."""
    return DECLARED.get(name) or DECLARED.get(_PART.sub("", name))


def misused(expression: str) -> list[str]:
    """What an expression makes of the statistics service's metrics that is wrong where several replicas run.

    A metric that every replica tells must stand right within `max by` or `min by` all of its labels, at most a function
    over time between them; one that replicas share out must stand within `sum`.
    """
    found = []
    for match in _NAME.finditer(expression):
        family = family_of(match.group())
        if family is None:
            continue
        aggregated = _AGGREGATED.search(expression[: match.start()])
        by = aggregated["by"] if aggregated else ""
        labels = {label.strip() for label in (aggregated["labels"] or "").split(",")} - {""} if aggregated else set()
        needed = {*family.labels, "le"} if match.group().endswith("_bucket") else set(family.labels)
        takes_once = by in ("max", "min") and labels == needed
        if not (by == "sum" if family.over_replicas == "sum" else takes_once):
            found.append(f"{match.group()} in {expression}")
    return found


def with_replicas(test: dict[str, Any], replicas: int) -> dict[str, Any]:
    """A test of promtool where so many replicas show each series that every replica tells."""
    series = [one for item in test["input_series"] for one in _shown_by(item, replicas)]
    return {**test, "input_series": series}


def _shown_by(item: dict[str, str], replicas: int) -> list[dict[str, str]]:
    name, _, labels = item["series"].partition("{")
    family = family_of(name)
    if family is None or family.over_replicas == "sum" or "instance=" in labels:
        return [item]
    rest = labels.removesuffix("}")
    return [
        {**item, "series": f'{name}{{{rest}{", " if rest else ""}instance="stats-{number}:9999"}}'}
        for number in range(replicas)
    ]
