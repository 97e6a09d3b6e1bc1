"""The results of an attempt, small enough that every reader of the log can read them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

MAX_BYTES: Final = 192 * 1024
"""Readers take records of 512 KiB; `run.completed` repeats the results beside what it adds."""

MAX_VALUES: Final = 4_000
"""Readers take 10,000 values."""

INT64_MAX: Final = 2**63 - 1
"""Readers take no larger whole number."""

MAX_MESSAGE: Final = 4_000
ESSENTIAL: Final = frozenset(
    {"trainer", "task_type", "metric", "value", "baseline", "greater_is_better", "model", "clearml", "seconds"}
)


def bounded(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results, without their largest inessential parts where they are too many; `left_out` then names those.

    The archive's manifest holds what is left out here. Whole numbers beyond 64 bits become text.
    """
    kept = {name: _with_readable_numbers(value) for name, value in results.items()}
    left_out: list[str] = []
    while _bytes(kept) > MAX_BYTES or count_values(kept) > MAX_VALUES:
        candidates = [name for name in kept if name not in ESSENTIAL]
        if not candidates:
            break
        largest = max(
            candidates, key=lambda name: (count_values(kept[name]) / MAX_VALUES) + _bytes(kept[name]) / MAX_BYTES
        )
        del kept[largest]
        left_out.append(largest)
    return {**kept, "left_out": sorted(left_out)} if left_out else kept


def count_values(value: Any) -> int:
    """How many JSON values there are in `value`, itself included."""
    count, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        count += 1
        if isinstance(one, Mapping):
            waiting.extend(one.values())
        elif isinstance(one, list | tuple):
            waiting.extend(one)
    return count


def _with_readable_numbers(value: Any) -> Any:
    if isinstance(value, int):
        return value if abs(value) <= INT64_MAX else str(value)
    if isinstance(value, Mapping):
        return {name: _with_readable_numbers(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_readable_numbers(item) for item in value]
    return value


def _bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))
