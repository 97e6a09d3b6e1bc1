"""The names that clearml-serving's own statistics service has, for dashboards made for it; the numbers are ours. Pure.

One name per endpoint and value: `<url>:_latency`, whatever is not a letter, a digit, `_` or `:` becoming `_`. Urls that
meet in one name (`a/1` and `a-1`) are added up, partitions and deployments too.
"""

from __future__ import annotations

import re
from itertools import accumulate

from trainyard_stats.serving.counters import LATENCY_EDGES_S, Number
from trainyard_stats.serving.exposition import Parts

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_:]")


def name_of(url: str, key: str) -> str:
    """The metric's name of an endpoint's value."""
    name = _NOT_IN_A_NAME.sub("_", f"{url}:{key}")
    return f"_{name}" if name[0].isdigit() else name


def render(parts: Parts, *, openmetrics: bool) -> str:
    """Latency and counts of every endpoint under the peer's names."""
    latency: dict[str, list[Number]] = {}
    sums: dict[str, float] = {}
    for counters in parts.values():
        for url, endpoint in counters.endpoints.copy().items():
            name = name_of(url, "_latency")
            before = latency.get(name, [0] * (len(LATENCY_EDGES_S) + 1))
            latency[name] = [a + b for a, b in zip(before, tuple(endpoint.latency), strict=True)]
            sums[name] = sums.get(name, 0.0) + endpoint.latency_sum_s
    lines: list[str] = []
    edges = (*(repr(edge) for edge in LATENCY_EDGES_S), "+Inf")
    for name, counts in sorted(latency.items()):
        summed = [round(n) for n in accumulate(counts)]
        lines += [f"# HELP {name} Built in _latency", f"# TYPE {name} histogram"]
        lines += [f'{name}_bucket{{le="{edge}"}} {n}' for edge, n in zip(edges, summed, strict=True)]
        lines += [f"{name}_count {summed[-1]}", f"{name}_sum {sums[name]!r}"]
        counter = f"{name.removesuffix('_latency')}_count"
        shown = counter if openmetrics else f"{counter}_total"
        lines += [f"# HELP {shown} Built in _count", f"# TYPE {shown} counter", f"{counter}_total {summed[-1]}"]
    return "".join(f"{line}\n" for line in lines)
