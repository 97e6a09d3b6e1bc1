"""From the kill -9 of a worker in mid-training until its run's next attempt stands in the queue, with the lease and the
silence that ship."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from bench._stand import stand, wait_until
from bench._worker import Runs, example, worker
from trainyard_dispatcher.settings import DispatcherSettings
from trainyard_schemas.events import AttemptQueued
from trainyard_schemas.vocabulary import EventType

SLACK_S = 10.0
_QUEUE = "killed"


def main() -> int:
    """Print one line; exit 1 where the next attempt came later than silence + lease + 10 s, or did not succeed."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    fields = DispatcherSettings.model_fields
    lease_s, silence_s = float(fields["lease_s"].default), float(fields["silence_s"].default)
    bound_s = silence_s + lease_s + SLACK_S
    request = example("wine-flaml", queue=_QUEUE, time_budget_s=20, retry={"max_attempts": 2, "backoff_s": 0})
    with (
        tempfile.TemporaryDirectory(prefix="trainyard-bench-") as folder,
        stand(delay="real", queues=(_QUEUE,), max_queue_depth=8) as where,
    ):
        runs = Runs(where)
        (Path(folder) / "killed").mkdir()
        with worker(where, Path(folder) / "killed", "--queues", _QUEUE) as dying:
            run_id = runs.ask("run", request)
            wait_until(lambda: any(line["phase"] == "fit" for line in dying.lines("phase")), "the run fits", 60)
            os.kill(dying.pid, signal.SIGKILL)
            killed_at = time.time()

        def queued_again() -> list[float]:
            return [e.time for e in runs.events if isinstance(e.fact, AttemptQueued) and e.fact.attempt == 2]

        runs.wait(lambda: bool(queued_again()), "the next attempt is queued", bound_s + 60)
        waited_s = queued_again()[0] - killed_at
        with worker(where, Path(folder), "--queues", _QUEUE):
            runs.wait_for_the_end({run_id}, 120)
        outcome = runs.outcomes()[run_id]
    figures = {
        "bench": "killed",
        "silence_s": silence_s,
        "lease_s": lease_s,
        "queued_after_s": round(waited_s, 1),
        "then": outcome,
        "bounds": {"queued_after_s": bound_s},
    }
    ok = waited_s <= bound_s and outcome == EventType.ATTEMPT_SUCCEEDED.value
    print(json.dumps({**figures, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
