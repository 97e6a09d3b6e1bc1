"""Print one line per finished run, each exactly once for as long as the group's offsets live: how good the model is
beside a guess, where it is, and all that is needed to check and to trace it.

python subscribe_completed.py HOST:PORT GROUP [SECONDS]      (SECONDS: end after so long without a record)
"""

import json
import sys
from typing import Any

from kafka import KafkaConsumer

bootstrap, group = sys.argv[1], sys.argv[2]
silence_ms = float(sys.argv[3]) * 1000 if len(sys.argv) > 3 else float("inf")
consumer = KafkaConsumer(
    "trainyard.runs.completed",
    bootstrap_servers=bootstrap.split(","),
    group_id=group,
    auto_offset_reset="earliest",
    enable_auto_commit=False,
    consumer_timeout_ms=silence_ms,
)


def summary(end: dict[str, Any]) -> dict[str, Any]:
    """What this subscriber wants to know of a run; a run that did not complete has fewer results, or none."""
    results = end.get("results") or {}
    model, dataset, split = (results.get(part) or {} for part in ("model", "dataset", "split"))
    return {
        **{key: end.get(key) for key in ("run_id", "run_name", "state", "reason", "trainer", "attempt", "worker")},
        **{key: results.get(key) for key in ("metric", "value", "baseline", "cpu_seconds", "peak_memory_bytes")},
        "model": {key: model.get(key) for key in ("id", "name", "version", "uri", "sha256")},
        "artifacts": {file["name"]: file["uri"] for file in results.get("artifacts") or []},
        "dataset_sha256": dataset.get("sha256"),
        "held_out_rows": split.get("n_test"),
        "fit_seconds": (results.get("seconds") or {}).get("fit"),
        "clearml_task": (results.get("clearml") or {}).get("task_id"),
    }


seen = set()  # a crash of Trainyard may repeat a record, with the same id; keep the ids where your own state is
for record in consumer:
    event = json.loads(record.value)
    if event["id"] not in seen:
        seen.add(event["id"])
        print(json.dumps(summary(event["data"])), flush=True)
    consumer.commit()
consumer.close()
