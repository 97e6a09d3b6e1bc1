"""The speed of a real server, for benchmarks: pure."""

from __future__ import annotations

import itertools
from typing import Final

CREATE_MS: Final = 5.0
"""`tasks.create` on clearml-server 2.3.0 with two shared cores, whatever is stored already."""

OTHER_MS: Final = 5.0
"""Any other call. With it the SDK's create + parameters + enqueue takes 72 ms plain (6 calls) and 167 ms with script,
image and packages (14 calls) on two quiet cores; the real server's figures are 70 to 83 and 139 to 178 ms."""

ENQUEUE_MS: Final = ((0, 10.0), (200, 16.0), (400, 23.0), (600, 31.0), (1000, 47.0), (1600, 69.0))
"""`tasks.enqueue` by the queue's length; the first is what a create and an enqueue (15 ms) leave for the enqueue."""


def call_ms(action: str, queue_length: int) -> float:
    """How long a real server takes for this call, in milliseconds; `queue_length` counts the queue's entries."""
    if action == "tasks.create":
        return CREATE_MS
    if action != "tasks.enqueue":
        return OTHER_MS
    steps = list(itertools.pairwise(ENQUEUE_MS))
    for (low, low_ms), (high, high_ms) in steps:
        if queue_length <= high or (high, high_ms) == ENQUEUE_MS[-1]:
            return low_ms + (high_ms - low_ms) * (queue_length - low) / (high - low)
    raise AssertionError("the last step takes every length")
