"""Is a consumer stuck? Behind the log's end, and not moving, although the log answers. Pure.

aiokafka's consumers were seen to stay silent after a broker's restart (aio-libs/aiokafka#1154); a process that notices
can end, and its supervisor starts it again.
"""

from __future__ import annotations

from collections.abc import Mapping

Place = tuple[str, int]
"""A topic and a partition."""


class ProgressWatch:
    """Remembers per partition since when a consumer has been behind without moving.

    `limit_s` is how long that may last. Times in seconds on a monotonic clock.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._behind: dict[Place, tuple[int, float]] = {}

    def stuck(self, positions: Mapping[Place, int], ends: Mapping[Place, int], now: float) -> list[Place]:
        """The partitions that have been behind at the same position for longer than the limit.

        A partition that is not in `positions` (not ours any more) or not in `ends` (no answer) is forgotten.
        """
        behind = {place: position for place, position in positions.items() if place in ends and position < ends[place]}
        self._behind = {
            place: self._behind[place] if self._behind.get(place, (None, 0.0))[0] == position else (position, now)
            for place, position in behind.items()
        }
        return sorted(place for place, (_, since) in self._behind.items() if now - since > self._limit_s)


def lag(positions: Mapping[Place, int], ends: Mapping[Place, int]) -> int:
    """How many offsets the positions are behind the ends, in all."""
    return sum(max(0, ends[place] - position) for place, position in positions.items() if place in ends)
