"""From `trainyard up` to a stack that is ready, and the whole demo on it, in a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

READY_BOUND_S = 12.0
DEMO_BOUND_S = 60.0


def _timed(*arguments: str, home: str) -> tuple[float, int, str]:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "trainyard_submitter", *arguments],
        env={**os.environ, "TRAINYARD_HOME": home},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return time.perf_counter() - began, done.returncode, done.stdout


def main() -> int:
    """Print one line; exit 1 where a bound is missed or a run of the demo did not pass."""
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as home:
        try:
            ready_s, up, _ = _timed("up", "--detach", home=home)
        finally:
            _timed("down", home=home)
        demo_s, demo, printed = _timed("demo", "--json", home=home)
    figures = {
        "bench": "start",
        "ready_s": round(ready_s, 1),
        "demo_s": round(demo_s, 1),
        "demo_runs": [run["state"] for run in json.loads(printed or '{"runs": []}')["runs"]],
        "bounds": {"ready_s": READY_BOUND_S, "demo_s": DEMO_BOUND_S},
        "ok": up == 0 and demo == 0 and ready_s <= READY_BOUND_S and demo_s <= DEMO_BOUND_S,
    }
    print(json.dumps(figures))
    return 0 if figures["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
