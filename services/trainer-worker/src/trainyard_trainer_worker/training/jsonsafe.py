"""Library results as plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MAX_ITEMS = 1_000
MAX_TEXT = 2_000


def json_safe(value: object, depth: int = 6) -> Any:
    """`value` as something that `json.dumps(allow_nan=False)` takes: numpy scalars and arrays become Python's,
    not-a-number and infinities become None, other objects their cut text, mappings and sequences at most 1,000 items
    and six levels."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return str(value)[:MAX_TEXT]
    if hasattr(value, "tolist"):
        return json_safe(value.tolist(), depth)
    if depth > 0 and isinstance(value, Mapping):
        return {str(k)[:MAX_TEXT]: json_safe(v, depth - 1) for k, v in list(value.items())[:MAX_ITEMS]}
    if depth > 0 and isinstance(value, list | tuple | set | frozenset):
        return [json_safe(item, depth - 1) for item in list(value)[:MAX_ITEMS]]
    return repr(value)[:MAX_TEXT]
