"""How many requests a second reach a ClearML queue, beside a direct REST client and beside the SDK.

One run on one server that is as slow as a real one. The direct client does the least that can be done: one
`tasks.create` with everything and one `tasks.enqueue`, one after the other. All three fill an empty queue to the same
depth, because a real server's enqueue slows down with the length of its queue.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench._stand import DirectClient, Stand, stand, wait_until
from trainyard_dispatcher.routing import Routing
from trainyard_dispatcher.task_body import task_body
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.sync_client import SyncPublisher
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.upcasting import parse_request
from trainyard_schemas.vocabulary import RunPhase

DIRECT_BOUND = 0.9
SDK_BOUND = 5.0
_SDK_PROGRAM = """
import os, sys, time
from clearml import Task
count, queue, whole = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "whole"
job = {"script": "job.py", "docker": "f3.sklearn-trainer:latest", "packages": ["trainyard-trainer-worker"]}
began = None
for n in range(count + 1):
    task = Task.create("AutoML", f"bench-{n}", task_type="training", **(job if whole else {}))
    task.set_parameters({"Run/run_id": f"sdk-{n}", "Run/attempt": "1", "Dataset/uri": "wine.csv"})
    if whole:
        task.add_tags(["automl", "trainer:sklearn", "schema:v2"])
    Task.enqueue(task, queue_name=queue)
    began = began or time.perf_counter()
print(count / (time.perf_counter() - began), flush=True)
os._exit(0)
"""


def request(number: int, queue: str) -> dict[str, Any]:
    """A small request for `queue`."""
    return {
        "schema_version": 2,
        "trainer": "sklearn",
        "task_type": "classification",
        "dataset": {"type": "tabular", "uri": "wine.csv", "label": "target"},
        "run_name": f"bench-{number}",
        "queue": queue,
        "idempotency_key": f"{queue}-{number}",
    }


def queue_length(client: DirectClient, name: str) -> int:
    """Entries that stand in the queue of exactly this name."""
    (queue,) = client.call("queues.get_all", {"name": f"^{name}$", "only_fields": ["id", "entries"]})["queues"]
    return len(queue.get("entries") or [])


def direct_rate(where: Stand, count: int, queue: str) -> float:
    """Tasks a second of one direct client, with the same body that the dispatcher sends."""
    client = DirectClient(where.api)
    (found,) = client.call("queues.get_all", {"name": f"^{queue}$"})["queues"]
    project = client.call("projects.create", {"name": f"bench-{queue}"})["id"]
    accepted = parse_request(request(0, queue)).request
    state = RunState("direct", RunPhase.ACCEPTED, 0, 0, "", "default", accepted.to_json(), accepted_at=0.0, priority=5)
    routing = Routing({}, {"cpu": "cpu"}, "default", {})
    body = task_body(state, 1, routing.image("sklearn"), "trainyard.") | {"project": project}
    began = time.perf_counter()
    for _ in range(count):
        task = client.call("tasks.create", body)["id"]
        client.call("tasks.enqueue", {"task": task, "queue": found["id"]})
    return count / (time.perf_counter() - began)


def dispatcher_rate(where: Stand, count: int, queue: str) -> float:
    """Tasks a second of the dispatcher, from the first request's publication to the last task in its queue."""
    client = DirectClient(where.api)
    publisher = SyncPublisher(Address(where.bootstrap))
    topic = "trainyard.runs.requested"
    publisher.publish(topic, json.dumps(request(-1, "warm-up")).encode())
    wait_until(lambda: queue_length(client, "warm-up") == 1, "the first request queued", 30)
    bodies = [json.dumps(request(n, queue)).encode() for n in range(count)]
    began = time.perf_counter()
    for body in bodies:
        publisher.publish(topic, body)
    deadline = time.monotonic() + 300
    while (length := queue_length(client, queue)) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {length} of {count} requests were queued within 300 s")
        time.sleep(0.2)
    seconds = time.perf_counter() - began
    publisher.close()
    return count / seconds


def sdk_rate(where: Stand, count: int, queue: str, kind: str) -> float:
    """Tasks a second of the SDK's create, set_parameters and enqueue.

    `kind` is `whole` (image, script, packages and tags, as an agent needs and the dispatcher sends) or `bare`.
    """
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as folder:
        (Path(folder) / "job.py").write_text("print('a job')\n")
        done = subprocess.run(
            [sys.executable, "-c", _SDK_PROGRAM, str(count), queue, kind],
            env={**where.environment, "PATH": "/usr/bin:/bin"},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
    if done.returncode != 0:
        raise RuntimeError(f"the SDK's program failed: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def main() -> int:
    """Print one line; exit 1 where a ratio is under its bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--sdk-tasks", type=int, default=None, help="how many tasks the SDK makes (default: as many)")
    options = parser.parse_args()
    count: int = options.requests
    sdk_count: int = options.sdk_tasks or count
    queues = ("warm-up", "direct", "dispatcher", "sdk-whole", "sdk-bare")
    with stand(delay="real", queues=queues, max_queue_depth=count) as where:
        direct = direct_rate(where, count, "direct")
        ours = dispatcher_rate(where, count, "dispatcher")
        whole = sdk_rate(where, sdk_count, "sdk-whole", "whole")
        bare = sdk_rate(where, sdk_count, "sdk-bare", "bare")
    figures = {
        "bench": "dispatch",
        "requests": count,
        "dispatcher_per_s": round(ours, 1),
        "direct_client_per_s": round(direct, 1),
        "sdk_per_s": round(whole, 1),
        "sdk_bare_per_s": round(bare, 1),
        "ratio_to_direct": round(ours / direct, 2),
        "ratio_to_sdk": round(ours / whole, 2),
        "ratio_to_sdk_bare": round(ours / bare, 2),
        "bounds": {"ratio_to_direct": DIRECT_BOUND, "ratio_to_sdk": SDK_BOUND},
        "ok": ours / direct >= DIRECT_BOUND and ours / whole >= SDK_BOUND,
    }
    print(json.dumps(figures))
    return 0 if figures["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
