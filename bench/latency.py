"""From a request's acknowledgement to its task standing in the queue, at a steady rate, a worker's pops beside it."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time

from bench._stand import DirectClient, stand, wait_until
from bench.dispatch import queue_length, request
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.sync_client import SyncPublisher, SyncReader
from trainyard_schemas import events as ev
from trainyard_schemas.events import decode_event
from trainyard_schemas.ids import run_id_from_key
from trainyard_schemas.topics import RUN_PARTITIONS

MEDIAN_BOUND_MS = 50.0
P99_BOUND_MS = 250.0
_QUEUE = "latency"


def _pop(api: str, ended: threading.Event) -> None:
    """Keep the queue short, as workers do."""
    client = DirectClient(api)
    (queue,) = client.call("queues.get_all", {"name": f"^{_QUEUE}$"})["queues"]
    while not ended.wait(0.05):
        client.call("queues.get_next_task", {"queue": queue["id"]})


def main() -> int:
    """Print one line; exit 1 where the median or the 99th percentile is over its bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-second", type=float, default=20.0)
    parser.add_argument("--requests", type=int, default=400)
    options = parser.parse_args()
    count, pause_s = int(options.requests), 1.0 / float(options.per_second)
    topic, lifecycle = "trainyard.runs.requested", "trainyard.runs.lifecycle"
    acknowledged: dict[str, float] = {}
    queued: dict[str, float] = {}
    with stand(delay="real", queues=("warm-up", _QUEUE), max_queue_depth=count) as where:
        publisher = SyncPublisher(Address(where.bootstrap))
        publisher.publish(topic, json.dumps(request(-1, "warm-up")).encode())
        client = DirectClient(where.api)
        wait_until(lambda: queue_length(client, "warm-up") == 1, "the first request queued", 30)
        reader = SyncReader(Address(where.bootstrap))
        positions = [(lifecycle, partition) for partition in range(RUN_PARTITIONS)]
        starts = reader.ends(positions)
        ended = threading.Event()
        popper = threading.Thread(target=_pop, args=(where.api, ended), daemon=True)
        popper.start()
        next_at = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, next_at - time.monotonic()))
            next_at += pause_s
            publisher.publish(topic, json.dumps(request(number, _QUEUE)).encode())
            acknowledged[run_id_from_key("default", f"{_QUEUE}-{number}")] = time.time()
        deadline = time.monotonic() + 60
        while len(queued) < count and time.monotonic() < deadline:
            for record in reader.read_to_end(starts):
                starts[(record.topic, record.partition)] = record.offset + 1
                event = decode_event(record.value, record.headers)
                if isinstance(event.fact, ev.AttemptQueued):
                    queued.setdefault(event.fact.run_id, event.time)
            time.sleep(0.1)
        ended.set()
        popper.join()
    waits_ms = sorted((queued[run] - at) * 1000 for run, at in acknowledged.items() if run in queued)
    percentiles = statistics.quantiles(waits_ms, n=100, method="inclusive")
    median, p99 = percentiles[49], percentiles[98]
    figures = {
        "bench": "latency",
        "requests": count,
        "per_s": options.per_second,
        "queued": len(waits_ms),
        "median_ms": round(median, 1),
        "p99_ms": round(p99, 1),
        "bounds": {"median_ms": MEDIAN_BOUND_MS, "p99_ms": P99_BOUND_MS},
        "ok": len(waits_ms) == count and median <= MEDIAN_BOUND_MS and p99 <= P99_BOUND_MS,
    }
    print(json.dumps(figures))
    return 0 if figures["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
