"""The one steady clock that leases, silences and waits are measured on."""

from __future__ import annotations

import time

if hasattr(time, "CLOCK_BOOTTIME"):

    def steady() -> float:
        """Seconds on a clock that only runs forward, also while this host is suspended; its zero means nothing."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:  # macOS: its monotonic clock stands still in sleep, so there a lease may last longer than it should

    def steady() -> float:
        """Seconds on a clock that only runs forward; its zero means nothing."""
        return time.monotonic()
