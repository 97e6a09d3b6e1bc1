"""Counting: `apply_all(fold, values)` counts the rows of messages. Pure, and the hot path.

Guarantee: a function of the messages in order, the rules and the cap alone; so folding again from a checkpoint gives
the same numbers, bit by bit. A message that is wrong is counted by what is wrong with it, at most once per message, per
row, or per custom value; whatever else is in it counts.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Sequence
from operator import length_hint
from typing import Any, Final

import msgspec

from trainyard_schemas.serving import (
    MAX_COUNT,
    MAX_ERROR_CHARACTERS,
    MAX_LATENCY_S,
    MAX_LIST_VALUES,
    MAX_URL_CHARACTERS,
    OVERFLOW,
    RejectKind,
)
from trainyard_stats.serving.counters import LATENCY_EDGES_S, MAX_ERRORS, Endpoint, Fold, Metric, Number
from trainyard_stats.serving.metric_rules import MetricKind, MetricSpec, enum_text


class _Row(msgspec.Struct, rename={"url": "_url", "latency": "_latency", "count": "_count", "status": "_status", "error": "_error"}, gc=False):  # fmt: skip  # noqa: E501
    url: str
    latency: float
    count: int
    status: Any = None
    error: Any = None


_decode_rows: Final = msgspec.json.Decoder(list[_Row]).decode
_decode_any: Final = msgspec.json.Decoder().decode


def apply(fold: Fold, value: bytes | None) -> None:
    """Count the rows of one message."""
    apply_all(fold, (value,))


def apply_all(fold: Fold, values: Sequence[bytes | None]) -> None:
    """Count the rows of messages that follow each other."""
    fold.counters.messages += len(values)
    plain, edges, decode = fold.plain.get, LATENCY_EDGES_S, _decode_rows
    for value in values:
        try:
            # ASCII is what senders write; only then is text that the decoder skips certainly UTF-8.
            rows = decode(value) if value is not None and value.isascii() else None
        except (msgspec.DecodeError, RecursionError):
            rows = None
        if rows is None:
            _apply_odd(fold, value)
            continue
        documents: Any = None
        left = iter(rows)
        for row in left:
            endpoint, latency, count = plain(row.url), row.latency, row.count
            if (
                endpoint is not None
                and 0.0 <= latency <= MAX_LATENCY_S
                and 0 < count <= MAX_COUNT
                and row.status is None
                and row.error is None
            ):
                endpoint.latency[bisect_left(edges, latency)] += count
                endpoint.latency_sum_s += latency * count
            else:
                if documents is None:
                    documents = _decode_any(value or b"")
                _count_row(fold, documents[-1 - length_hint(left)])


def _apply_odd(fold: Fold, value: bytes | None) -> None:
    """Count the rows of a message that is not all as it should be."""
    counters = fold.counters
    if not value:
        counters.reject(RejectKind.MESSAGE_EMPTY)
        return
    try:
        rows = _parse(value)
    except (ValueError, RecursionError):
        counters.reject(RejectKind.MESSAGE_NOT_JSON)
        return
    if not isinstance(rows, list):
        counters.reject(RejectKind.MESSAGE_NOT_A_LIST)
        return
    for row in rows:
        _count_row(fold, row)


def _parse(value: bytes) -> Any:
    """The JSON of a message. Python's `json.dumps` writes NaN and Infinity: those rows are wrong, not the message."""
    text = value.decode("utf-8")
    try:
        return _decode_any(value)
    except (msgspec.DecodeError, RecursionError):
        return json.loads(text)


def _count_row(fold: Fold, row: Any) -> None:
    reject = fold.counters.reject
    if not isinstance(row, dict):
        return reject(RejectKind.ROW_NOT_AN_OBJECT)
    url = row.get("_url")
    if url is None:
        return reject(RejectKind.URL_MISSING)
    if not isinstance(url, str) or not url or len(url) > MAX_URL_CHARACTERS or not url.isprintable():
        return reject(RejectKind.URL_INVALID)
    count = row.get("_count", 1)
    if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= MAX_COUNT:
        return reject(RejectKind.COUNT_INVALID)
    status = row.get("_status")
    if status is not None and (isinstance(status, bool) or not isinstance(status, int) or not 100 <= status <= 599):
        return reject(RejectKind.STATUS_INVALID)
    error = row.get("_error")
    if error is not None and not (isinstance(error, str) and 0 < len(error) <= MAX_ERROR_CHARACTERS and error.isprintable()):  # fmt: skip  # noqa: E501
        return reject(RejectKind.ERROR_INVALID)
    is_failure = error is not None or (status is not None and status >= 400)
    latency: Any = row.get("_latency")
    if not (latency is None and is_failure) and not _is_number(latency, 0.0, MAX_LATENCY_S):
        return reject(RejectKind.LATENCY_INVALID)
    rule = fold.rules.of(url)
    weight = rule.weight(count)
    endpoint = fold.endpoint(url)
    if is_failure:
        _count_failure(endpoint, status, error, weight)
    else:
        endpoint.latency[bisect_left(LATENCY_EDGES_S, latency)] += weight
        endpoint.latency_sum_s += latency * weight
    for name, spec in rule.metrics.items():
        if name in row:
            _count_custom(fold, endpoint, name, spec, row[name], weight)
    return None


def _count_failure(endpoint: Endpoint, status: int | None, error: str | None, weight: Number) -> None:
    kind = f"{status // 100}xx" if status is not None and status >= 400 else "error"
    endpoint.failures[kind] = endpoint.failures.get(kind, 0) + weight
    if error is not None:
        if error not in endpoint.errors and len(endpoint.errors) >= MAX_ERRORS:
            error = OVERFLOW
        endpoint.errors[error] = endpoint.errors.get(error, 0) + weight


def _count_custom(fold: Fold, endpoint: Endpoint, name: str, spec: MetricSpec, value: Any, weight: Number) -> None:
    metric = endpoint.custom.get(name)
    if metric is None or metric.kind is not spec.kind or metric.edges != spec.edges:
        metric = endpoint.custom[name] = Metric.of(spec)
    values = value if isinstance(value, list) else [value]
    if len(values) > MAX_LIST_VALUES:
        return fold.counters.reject(RejectKind.METRIC_INVALID)
    for one in values:
        if spec.kind is MetricKind.ENUM:
            text = enum_text(one)
            if text is None:
                fold.counters.reject(RejectKind.METRIC_INVALID)
            elif text not in spec.edges:
                fold.counters.reject(RejectKind.ENUM_VALUE_UNKNOWN)
            else:
                metric.counts[metric.edges.index(text)] += weight
        elif not _is_number(one, -1e300, 1e300) or (spec.kind is MetricKind.COUNTER and one < 0):
            fold.counters.reject(RejectKind.METRIC_INVALID)
        elif spec.kind is MetricKind.VALUE:
            metric.total = one
        else:
            if spec.kind is MetricKind.SCALAR:
                metric.counts[bisect_left(spec.edges, one)] += weight
            total = metric.total + one * weight
            if math.isfinite(total):
                metric.total = total
            else:
                fold.counters.reject(RejectKind.METRIC_INVALID)
    return None


def _is_number(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
