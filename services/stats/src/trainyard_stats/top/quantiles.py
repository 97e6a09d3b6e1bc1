"""Quantiles of a histogram's buckets, interpolated as Prometheus' `histogram_quantile` does. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping


def histogram_quantile(quantile: float, buckets: Mapping[float, float]) -> float | None:
    """The value below which `quantile` (0 to 1) of the observations lie; None without any.

    `buckets`: cumulative counts by upper edge, +Inf among them. Within a bucket the observations count as spread
    evenly, the first one begins at 0; beyond the last finite edge that edge is the answer.
    """
    edges = sorted(buckets)
    total = buckets[edges[-1]] if edges else 0.0
    if total <= 0 or len(edges) == 1 or not math.isinf(edges[-1]):
        return None
    rank, below, since = quantile * total, 0.0, 0.0
    for edge in edges:
        if buckets[edge] >= rank and buckets[edge] > below:
            if math.isinf(edge):
                return since
            return min(edge, since + (edge - since) * max(0.0, rank - below) / (buckets[edge] - below))
        below = max(below, buckets[edge])
        since = edge if math.isfinite(edge) else since
    return since
