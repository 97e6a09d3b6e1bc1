"""What is counted of one partition of the serving topic, and what of it is kept. Pure.

Counts are numbers of requests: whole ones, unless a sampling frequency gives a row a fractional weight. Nothing here
grows without bound: endpoints are capped, custom metrics come from a configuration, error names are capped.
"""

from __future__ import annotations

from typing import Final

import msgspec

from trainyard_schemas.serving import OVERFLOW, RejectKind
from trainyard_stats.serving.metric_rules import NO_RULES, MetricKind, MetricSpec, Rules

LATENCY_EDGES_S: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
"""Upper edges of the latency's buckets: the peer's, and one for slow models; above is one bucket more."""

FAILED_AS: Final = ("4xx", "5xx", "error")
"""What a failure may be counted as: its status class, or `error` where the sender named only an error."""

MAX_ERRORS: Final = 20
"""Names of errors per endpoint; further ones are counted as OVERFLOW."""

Number = int | float


class Metric(msgspec.Struct, array_like=True):
    """A custom metric of one endpoint.

    `edges` are a scalar's bucket edges or an enum's values; `counts` has one number per edge, a scalar one more for
    what is above. `total` is the weighted sum of a scalar or a counter, the last value of a value.
    """

    kind: MetricKind
    edges: tuple[float | str, ...]
    counts: list[Number]
    total: Number = 0

    @classmethod
    def of(cls, spec: MetricSpec) -> Metric:
        """An empty metric of this kind."""
        more = {MetricKind.SCALAR: len(spec.edges) + 1, MetricKind.ENUM: len(spec.edges)}.get(spec.kind, 0)
        return cls(spec.kind, spec.edges, [0] * more)


class Endpoint(msgspec.Struct, array_like=True):
    """One `_url`. `latency` holds the successes per bucket, not cumulative, one number more than LATENCY_EDGES_S."""

    latency: list[Number] = msgspec.field(default_factory=lambda: [0] * (len(LATENCY_EDGES_S) + 1))
    latency_sum_s: float = 0.0
    failures: dict[str, Number] = {}
    """By one of FAILED_AS; what there was none of may be missing."""
    errors: dict[str, Number] = {}
    """By the error's name."""
    custom: dict[str, Metric] = {}


class Counters(msgspec.Struct):
    """All that is counted of one partition.

    `skipped` are offsets that were never read: retention or a new topic took them before.
    """

    endpoints: dict[str, Endpoint] = {}
    rejected: dict[RejectKind, int] = {}
    messages: int = 0
    overflow_rows: int = 0
    skipped: int = 0

    def endpoint(self, url: str, rules: Rules, max_endpoints: int) -> Endpoint:
        """The endpoint's counts; those of OVERFLOW for an unconfigured one when the table is full."""
        found = self.endpoints.get(url)
        if found is None:
            if url != OVERFLOW and len(self.endpoints) >= max_endpoints and not rules.of(url).metrics:
                self.overflow_rows += 1
                return self.endpoint(OVERFLOW, rules, max_endpoints)
            found = self.endpoints[url] = Endpoint()
        return found

    def reject(self, kind: RejectKind) -> None:
        """Count something that was not counted."""
        self.rejected[kind] = self.rejected.get(kind, 0) + 1

    @property
    def requests(self) -> Number:
        """All requests, failures among them."""
        return sum(sum(e.latency) + sum(e.failures.values()) for e in self.endpoints.values())


class Fold:
    """Counters with the rules and the cap that they are counted by, and the short cut for plain rows."""

    __slots__ = ("counters", "max_endpoints", "plain", "rules")

    def __init__(self, counters: Counters, rules: Rules = NO_RULES, max_endpoints: int = 1_000) -> None:
        self.counters = counters
        self.max_endpoints = max_endpoints
        self.rules = rules
        self.plain: dict[str, Endpoint] = {}
        self.use(rules)

    def use(self, rules: Rules) -> None:
        """Count by these rules from now on."""
        self.rules = rules
        self.plain = {url: e for url, e in self.counters.endpoints.items() if rules.of(url).is_plain}

    def endpoint(self, url: str) -> Endpoint:
        """The counts that a row of this endpoint goes to."""
        found = self.counters.endpoint(url, self.rules, self.max_endpoints)
        if url in self.counters.endpoints and self.rules.of(url).is_plain:
            self.plain[url] = found
        return found
