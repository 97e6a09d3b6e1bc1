"""What our services cost when nothing happens: resident memory and processor time of the running stack's services."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import psutil

MEMORY_BOUND_MB = 350.0
PROCESSOR_BOUND_PERCENT = 2.0


def main() -> int:
    """Print one line about the stack that runs; exit 1 where a bound is missed, 5 where no stack runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    status = subprocess.run(
        [sys.executable, "-m", "trainyard_submitter", "status", "--json"], capture_output=True, text=True, check=False
    )
    if status.returncode != 0:
        sys.stderr.write(status.stderr)
        return status.returncode
    services = json.loads(status.stdout)["services"]
    processes = {name: psutil.Process(service["pid"]) for name, service in services.items()}
    before = {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}
    time.sleep(options.seconds)
    percent = {
        name: 100.0 * (sum(process.cpu_times()[:2]) - before[name]) / options.seconds
        for name, process in processes.items()
    }
    memory = {name: process.memory_info().rss / 1e6 for name, process in processes.items()}
    figures = {
        "bench": "idle",
        "seconds": options.seconds,
        "memory_mb": {name: round(value, 1) for name, value in memory.items()},
        "processor_percent": {name: round(value, 2) for name, value in percent.items()},
        "memory_mb_all": round(sum(memory.values()), 1),
        "processor_percent_all": round(sum(percent.values()), 2),
        "bounds": {"memory_mb_all": MEMORY_BOUND_MB, "processor_percent_all": PROCESSOR_BOUND_PERCENT},
        "ok": sum(memory.values()) <= MEMORY_BOUND_MB and sum(percent.values()) < PROCESSOR_BOUND_PERCENT,
    }
    print(json.dumps(figures))
    return 0 if figures["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
