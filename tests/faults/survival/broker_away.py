"""The broker goes away in mid-training for longer than the lease: training freezes, thaws, and the run completes in its
first attempt.

`python -m tests.faults.survival.broker_away --away-s 180` does it with the lease that ships, and prints one line.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.behaviour.clearml.server import ClearMLServer, embedded_server
from tests.faults.survival.conftest import survival_at
from tests.integration.trainer_worker.stage import example, until
from trainyard_devstack.kafka_broker import EmbeddedKafka
from trainyard_schemas.events import AttemptLost


@dataclass(frozen=True, slots=True)
class Absence:
    """What was seen. `frozen_after_s`: from the broker's end until the child stands still; `computed_s`: what the child
    computed while it stood; `thawed_after_s`: from the broker's return."""

    away_s: float
    frozen_after_s: float
    computed_s: float
    thawed_after_s: float
    attempt: int
    lost: int


def absence(
    server: ClearMLServer, folder: Path, *, away_s: float, budget_s: float, paused: bool, environment: dict[str, str]
) -> Absence:
    """Take the broker away for `away_s` seconds in the middle of a fit of `budget_s`; it is ended, or `paused`.

    `environment` is the dispatcher's. AssertionError where the child does not freeze, thaw, or the run not complete.
    """
    request: dict[str, Any] = {
        **example("wine-flaml"),
        "time_budget_s": budget_s,
        "retry": {"max_attempts": 3, "backoff_s": 0},
    }
    kafka = EmbeddedKafka(folder / "kafka")
    with kafka, survival_at(kafka.bootstrap, f"t{uuid.uuid4().hex[:10]}.", server, folder) as survival:
        survival.yard.start(ready=True, **environment)
        worker = survival.worker()
        survival.submit(request)
        survival.when("started")
        child = survival.training_child(worker)
        broker = kafka.process
        assert broker is not None
        gone_at = time.monotonic()
        if paused:
            broker.send_signal(signal.SIGSTOP)
        else:
            kafka.stop()
        until(lambda: child.status() == psutil.STATUS_STOPPED, "the child is frozen", away_s)
        frozen_after_s, computed_s = time.monotonic() - gone_at, seconds_of(child)
        while time.monotonic() < gone_at + away_s:
            assert child.status() == psutil.STATUS_STOPPED, "it stands as long as the log cannot be read"
            time.sleep(0.2)
        computed_s = seconds_of(child) - computed_s
        if paused:
            broker.send_signal(signal.SIGCONT)
        else:
            kafka.start()
        back_at = time.monotonic()
        until(lambda: child.status() != psutil.STATUS_STOPPED, "the child is thawed", 60)
        thawed_after_s = time.monotonic() - back_at
        state = survival.ends_once("completed")
        facts = {
            e.id for events in survival.story().events.values() for e, _ in events if isinstance(e.fact, AttemptLost)
        }
        return Absence(away_s, frozen_after_s, computed_s, thawed_after_s, state.attempt, len(facts))


def seconds_of(process: psutil.Process) -> float:
    """Processor seconds that the process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> int:
    """Print one line; exit 1 where the run needed a second attempt, or the frozen child computed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--away-s", type=float, default=180.0)
    parser.add_argument("--paused", action="store_true", help="the broker stands still instead of ending")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trainyard-campaign-") as name:
        folder = Path(name)
        with embedded_server(folder / "clearml") as server:
            seen = absence(server, folder, away_s=options.away_s, budget_s=120, paused=options.paused, environment={})
    ok = seen.attempt == 1 and seen.lost == 0 and seen.computed_s == 0
    print(json.dumps({"campaign": "broker_away", "paused": options.paused, **asdict(seen), "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
