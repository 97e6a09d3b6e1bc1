"""How tests say how long something may take. A machine that others share is slow for seconds at a time."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

RERUNS = 2


class TooSlow(AssertionError):
    """Something took longer than it may."""


def in_time(bound_s: float, took_s: float) -> None:
    """Assert that something took less than it may; for tests that are marked `timed`. Both in seconds."""
    if not took_s < bound_s:
        raise TooSlow(f"it took {took_s:.3f} s, and {bound_s:.3f} s are allowed")


def measure_again(items: Iterable[pytest.Item]) -> None:
    """Have timed tests run again, up to `RERUNS` times, where they are `TooSlow` and for no other failure.

    The summary of pytest counts the reruns.
    """
    for item in items:
        if item.get_closest_marker("timed"):
            item.add_marker(pytest.mark.flaky(reruns=RERUNS, only_rerun=[TooSlow]))
