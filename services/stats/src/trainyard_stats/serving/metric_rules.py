"""Which custom values of a row are counted, and what a sampled row weighs: `metric_logging`, read. Pure.

The document is clearml-serving's own: per endpoint `log_frequency` and `metrics`, each with `type` (scalar, enum, value
or counter) and `buckets` (a scalar's upper edges, an enum's values).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

MAX_METRICS: Final = 50
"""Custom metrics per endpoint."""
MAX_BUCKETS: Final = 100
MAX_SERIES: Final = 10_000
"""Buckets of all custom metrics together: what bounds a checkpoint's size beside the endpoints' cap."""

RESERVED: Final = ("_url", "_latency", "_count", "_status", "_error")


class MetricKind(StrEnum):
    """What a custom value is."""

    SCALAR = "scalar"
    ENUM = "enum"
    VALUE = "value"
    COUNTER = "counter"


class RulesError(ValueError):
    """The document is no `metric_logging`; the message names the place, what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One custom metric; `edges` are a scalar's sorted upper edges or an enum's values."""

    kind: MetricKind
    edges: tuple[float, ...] | tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointRule:
    """How one endpoint's rows are counted. `frequency` is the share of requests that is sent, None where unknown."""

    frequency: float | None = None
    metrics: Mapping[str, MetricSpec] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether a row is its reserved fields and weighs what it says."""
        return not self.metrics and (self.frequency is None or not 0 < self.frequency < 1)

    def weight(self, count: int) -> int | float:
        """How many requests a row with this `_count` stands for.

        The sender's `int(1/frequency)` is exact for 1/2 and 28 % low for 0.7, so the configured frequency decides. A
        count that does not fit it was sent under another configuration, and is taken as it is.
        """
        frequency = self.frequency
        if frequency is None or not 0 < frequency < 1 or count != int(1.0 / frequency):
            return count
        weight = 1.0 / frequency
        return int(weight) if weight.is_integer() else weight


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one deployment: `endpoints` by `_url`, and the frequency of all that are not named."""

    endpoints: Mapping[str, EndpointRule] = field(default_factory=dict)
    default: EndpointRule = EndpointRule()

    def of(self, url: str) -> EndpointRule:
        """An endpoint's rule."""
        return self.endpoints.get(url, self.default)


NO_RULES: Final = Rules()


def parse_rules(document: Any, frequency: float | None = None) -> Rules:
    """The rules of a `metric_logging` document; `frequency` is the deployment's `metric_logging_freq`.

    Raises RulesError.
    """
    if not isinstance(document, Mapping):
        raise RulesError("metric_logging: is no object of endpoints; write {endpoint: {metrics: {...}}}")
    if frequency is not None and not 0 <= frequency <= 1:
        raise RulesError(f"metric_logging_freq: {frequency:g} is not between 0 and 1")
    endpoints: dict[str, EndpointRule] = {}
    series = 0
    for url, entry in _entries(document, ""):
        own = _frequency(url, entry.get("log_frequency"))
        metrics = _metrics(url, entry.get("metrics"))
        series += sum(len(spec.edges) + 3 for spec in metrics.values())
        endpoints[url] = EndpointRule(frequency if own is None else own, metrics)
    if series > MAX_SERIES:
        raise RulesError(f"metric_logging: asks for {series:,} series, the limit is {MAX_SERIES:,}; use fewer buckets")
    return Rules(endpoints, EndpointRule(frequency))


def _entries(document: Mapping[str, Any], above: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Endpoints by url. clearml-serving writes the key `x/1.0` unquoted, so it is read as `{x/1: {0: ...}}`."""
    for key, entry in document.items():
        name = f"{above}{str(key).strip(chr(34))}"
        if not isinstance(entry, Mapping):
            raise RulesError(f"metric_logging.{name}: is no object; write {{endpoint, metrics}}")
        if "metrics" in entry or "endpoint" in entry or "log_frequency" in entry:
            url = entry.get("endpoint", name)
            if not isinstance(url, str) or not url:
                raise RulesError(f"metric_logging.{name}.endpoint: is no text")
            yield url, entry
        else:
            yield from _entries(entry, f"{name}.")


def _frequency(url: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise RulesError(f"metric_logging.{url}.log_frequency: is no number from 0 to 1")
    return float(value)


def _metrics(url: str, value: Any) -> dict[str, MetricSpec]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise RulesError(f"metric_logging.{url}.metrics: is no object")
    if len(value) > MAX_METRICS:
        raise RulesError(f"metric_logging.{url}.metrics: has {len(value)}, the limit is {MAX_METRICS}")
    return {str(name): _spec(f"metric_logging.{url}.metrics.{name}", str(name), spec) for name, spec in value.items()}


def _spec(place: str, name: str, value: Any) -> MetricSpec:
    if name in RESERVED:
        raise RulesError(f"{place}: is a reserved field, and is counted without being named")
    if not name.isprintable():
        raise RulesError(f"{place!r}: the name holds control characters")
    if not isinstance(value, Mapping) or value.get("type") not in set(MetricKind):
        raise RulesError(f"{place}.type: is none of {', '.join(MetricKind)}")
    kind = MetricKind(value["type"])
    buckets = value.get("buckets") or ()
    if kind in (MetricKind.VALUE, MetricKind.COUNTER):
        return MetricSpec(kind)
    if not isinstance(buckets, list | tuple) or not 1 <= len(buckets) <= MAX_BUCKETS:
        raise RulesError(f"{place}.buckets: is no list of 1 to {MAX_BUCKETS} values")
    if kind is MetricKind.ENUM:
        return MetricSpec(kind, tuple(dict.fromkeys(_enum_value(place, item) for item in buckets)))
    if not all(isinstance(b, int | float) and not isinstance(b, bool) and math.isfinite(b) for b in buckets):
        raise RulesError(f"{place}.buckets: holds something that is no number")
    return MetricSpec(kind, tuple(sorted({float(b) for b in buckets})))


def _enum_value(place: str, value: Any) -> str:
    text = enum_text(value)
    if text is None or not text.isprintable():
        raise RulesError(f"{place}.buckets: holds something that is neither text nor a number")
    return text


def enum_text(value: Any) -> str | None:
    """An enum's value as its label: text as it is, numbers as JSON writes them; None for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    return repr(value) if isinstance(value, int | float) else None
