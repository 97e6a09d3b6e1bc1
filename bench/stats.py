"""The statistics of model serving, beside clearml-serving's own code on the same topic."""

from __future__ import annotations

import argparse
import json
import math
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import venv
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from prometheus_client.parser import text_string_to_metric_families

from bench._stand import free_ports, wait_until
from trainyard_devstack.kafka_broker import EmbeddedKafka
from trainyard_runtime.kafka.admin import apply_topics
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_schemas.topics import RUN_PARTITIONS, TOPICS
from trainyard_stats.confluent.checkpoints import KafkaCheckpoints
from trainyard_stats.confluent.client import client_options
from trainyard_stats.confluent.source import SURELY_HELD_S, KafkaSource
from trainyard_stats.serving.counters import LATENCY_EDGES_S
from trainyard_stats.serving.metric_rules import NO_RULES
from trainyard_stats.serving.replica import Replica

PEER_REQUIREMENTS = ("clearml", "prometheus_client<0.16", "kafka-python", "lz4", "attrs", "numpy", "requests")
ENDPOINTS = 500
"""With 20 series each: 10,000."""
BOUNDS = {
    "times_the_peer": 10.0,
    "of_the_bare_loop": 0.6,
    "to_metrics_p99_s": 1.0,
    "scrape_ms": 100.0,
    "restart_s": 3.0,
    "memory_mb": 120.0,
}
QUANTILES = (0.5, 0.95, 0.99)


def peer_python(folder: Path) -> str:
    """An environment of its own with clearml-serving as it is published."""
    venv.EnvBuilder(with_pip=True).create(folder)
    python = str(folder / "bin" / "python")
    for arguments in (["clearml-serving", "--no-deps"], [*PEER_REQUIREMENTS]):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *arguments], check=True)
    return python


def create(bootstrap: str, topic: str) -> None:
    """One partition, as clearml-serving's producer makes it."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()


def produce(bootstrap: str, topic: str, latencies: Sequence[float]) -> None:
    """One message with one row for each latency, as clearml-serving writes them."""
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "lz4", "linger.ms": 20})
    for latency in latencies:
        row = {
            "_latency": latency,
            "_count": 1,
            "_url": "ep_sk/1",
            "temp": 3.62,
            "units": 1,
            "x0": 1.81,
            "label": "neg",
        }
        while True:
            try:
                producer.produce(topic, json.dumps([row]).encode())
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def of_the_peer(python: str, bootstrap: str, topic: str, latencies: Sequence[float]) -> dict[str, Any]:
    """The peer reads from the end on, so it is started first."""
    script = Path(__file__).parent / "_peer_stats.py"
    command = [python, str(script), bootstrap, topic, str(len(latencies))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as peer:
        assert peer.stdout is not None
        lines = iter(peer.stdout.readline, "")
        next(line for line in lines if line == "ready\n")
        time.sleep(5)  # its consumer has no sign of being at the end
        produce(bootstrap, topic, latencies)
        return dict(json.loads([line for line in lines if line.startswith("{")][-1]))


def of_the_bare_loop(bootstrap: str, topic: str, rows: int) -> float:
    """Rows per processor second of consume, decode and three additions."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bare", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    decode = msgspec.json.Decoder(list[_Row]).decode
    seen, count, total, began = 0, 0, 0.0, 0.0
    while seen < rows:
        for message in consumer.consume(2_000, 1.0):
            if not seen:
                began = time.process_time()
            for row in decode(message.value() or b""):
                seen += 1
                count += row.count
                total += row.latency
    took = time.process_time() - began
    consumer.close()
    return rows / took


class _Row(msgspec.Struct, rename={"latency": "_latency", "count": "_count", "url": "_url"}):
    latency: float
    count: int
    url: str


def of_ours(kafka: KafkaSettings, topic: str, rows: int) -> tuple[float, list[float], float]:
    """Rows per processor second of a whole replica, checkpoints included; and its buckets and sum."""
    options = client_options(kafka)
    replica = Replica(
        "bench",
        topic,
        KafkaSource(options, topic, "bench-stats"),
        KafkaCheckpoints(options, f"{kafka.topic_prefix}stats.checkpoints", RUN_PARTITIONS),
        rules=lambda: NO_RULES,
        max_endpoints=1_000,
        checkpoint_s=2.0,
        surely_held_s=SURELY_HELD_S,
    )
    thread = threading.Thread(target=replica.run, daemon=True)
    thread.start()
    wait_until(lambda: bool(replica._held), "the partition is ours", 30)
    began = time.process_time()
    wait_until(lambda: bool(replica.parts()), "all rows are counted", 300)
    took = time.process_time() - began
    (counters,) = replica.parts().values()
    replica.stop()
    thread.join()
    endpoint = counters.endpoints["ep_sk/1"]
    if sum(endpoint.latency) != rows:
        raise RuntimeError(f"{sum(endpoint.latency)} rows counted, {rows} sent")
    return rows / took, [float(n) for n in endpoint.latency], endpoint.latency_sum_s


def quantile(q: float, edges: Sequence[float], cumulative: Sequence[float]) -> float:
    """Prometheus' histogram_quantile: fixed to be monotonic, linear within the bucket; `edges` end with infinity."""
    fixed: list[float] = []
    for count in cumulative:
        fixed.append(max(count, fixed[-1] if fixed else 0.0))
    rank = q * fixed[-1]
    at = bisect_left(fixed, rank)
    if at >= len(edges) - 1:
        return edges[-2]
    below, low = (fixed[at - 1], edges[at - 1]) if at else (0.0, 0.0)
    return low + (edges[at] - low) * (rank - below) / (fixed[at] - below)


def peers_buckets(text: str) -> tuple[list[float], list[float]]:
    """Edges and what the peer exports for them."""
    samples = [
        (float(sample.labels["le"].replace("+Inf", "inf")), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.endswith(":_latency_bucket")
    ]
    samples.sort()
    return [edge for edge, _ in samples], [value for _, value in samples]


def quantiles(latencies: Sequence[float], ours: Sequence[float], peer_text: str) -> dict[str, Any]:
    """True, ours and the peer's, and whether each is within the bucket that holds the truth."""
    edges = [*LATENCY_EDGES_S, math.inf]
    summed = [sum(ours[: n + 1]) for n in range(len(ours))]
    peer_edges, peer_values = peers_buckets(peer_text)
    ordered = sorted(latencies)
    found: dict[str, Any] = {}
    for q in QUANTILES:
        true = ordered[math.ceil(q * len(ordered)) - 1]
        our, their = quantile(q, edges, summed), quantile(q, peer_edges, peer_values)
        found[f"p{q * 100:g}"] = {
            "true_ms": round(true * 1000, 1),
            "ours_ms": round(our * 1000, 2),
            "peer_ms": round(their * 1000, 2),
            "ours_in_its_bucket": abs(bisect_left(edges, our) - bisect_left(edges, true)) == 0,
            "peer_in_its_bucket": abs(bisect_left(edges, their) - bisect_left(edges, true)) == 0,
        }
    return found


class Service:
    """`python -m trainyard_stats` on a topic."""

    def __init__(self, bootstrap: str, prefix: str, topic: str, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self._folder = folder
        self._environment = {
            "PATH": "/usr/bin:/bin",
            "TRAINYARD_KAFKA_BOOTSTRAP": bootstrap,
            "TRAINYARD_TOPIC_PREFIX": prefix,
            "TRAINYARD_STATE_DIR": str(folder),
            "TRAINYARD_HTTP_PORT": str(self.port),
            "TRAINYARD_STATS_SERVING_SOURCES": f"bench={topic}",
        }

    def start(self) -> subprocess.Popen[bytes]:
        with (self._folder.parent / "stats.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", "trainyard_stats"], env=self._environment, stderr=log)

    def metrics(self) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def counted(self) -> float:
        name = "trainyard_serving_requests_total{"
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.metrics().splitlines() if line.startswith(name))


def of_the_service(bootstrap: str, prefix: str, folder: Path) -> dict[str, Any]:
    """The whole service with 10,000 series: memory, scrapes, a restart; and from a message to the page."""
    topic = f"{prefix}bench.service"
    create(bootstrap, topic)
    service = Service(bootstrap, prefix, topic, folder / "service")
    (folder / "service").mkdir()
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    sent = 0.0

    def send(rows: int, url: Callable[[int], str]) -> None:
        nonlocal sent
        batch = [{"_latency": 0.01, "_count": 1, "_url": url(n)} for n in range(rows)]
        producer.produce(topic, json.dumps(batch).encode())
        producer.flush()
        sent += rows

    process = service.start()
    try:
        send(1, lambda _: "ep/1")
        wait_until(lambda: service.counted() == sent, "counted", 60)
        waits = []
        for _ in range(200):
            began = time.monotonic()
            send(1, lambda _: "ep/1")
            while service.counted() != sent:
                time.sleep(0.002)
            waits.append(time.monotonic() - began)
            time.sleep(random.uniform(0, 0.1))
        for _ in range(20):
            send(ENDPOINTS, lambda n: f"endpoint-{n}/1")
        wait_until(lambda: service.counted() == sent, "10,000 series", 60)
        scrapes, measured = [], psutil.Process(process.pid)
        before = sum(measured.cpu_times()[:2])
        for _ in range(30):
            began = time.monotonic()
            text = service.metrics()
            scrapes.append(time.monotonic() - began)
        scrape_cpu_s = (sum(measured.cpu_times()[:2]) - before) / len(scrapes)
        series = sum(1 for line in text.splitlines() if line.startswith("trainyard_serving"))
        memory = measured.memory_info().rss / 1e6
        process.send_signal(signal.SIGKILL)
        process.wait()
        for _ in range(20):
            send(ENDPOINTS, lambda n: f"endpoint-{n}/1")
        began = time.monotonic()
        process = service.start()
        wait_until(lambda: service.counted() == sent, "exact after a restart", 60)
        restart_s = time.monotonic() - began
        restart_cpu_s = sum(psutil.Process(process.pid).cpu_times()[:2])
    finally:
        process.kill()
        process.wait()
    return {
        "series": series,
        "to_metrics_p99_s": round(statistics.quantiles(waits, n=100, method="inclusive")[98], 3),
        "to_metrics_median_s": round(statistics.median(waits), 4),
        "scrape_ms": round(statistics.median(scrapes) * 1000, 1),
        "scrape_cpu_ms": round(scrape_cpu_s * 1000, 1),
        "restart_s": round(restart_s, 2),
        "restart_cpu_s": round(restart_cpu_s, 2),
        "memory_mb": round(memory, 1),
    }


def main() -> int:
    """Print one line; exit 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--peer", help="a Python that has clearml-serving; else one is made in a temporary folder")
    options = parser.parse_args()
    rows = int(options.rows)
    chance = random.Random(7)
    latencies = [round(min(9.0, chance.lognormvariate(-4.6, 1.1)), 4) for _ in range(rows)]
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as name, EmbeddedKafka(Path(name) / "kafka") as kafka:
        folder = Path(name)
        python = options.peer or peer_python(folder / "peer")
        settings = KafkaSettings.model_validate({"bootstrap": kafka.bootstrap, "topic_prefix": "bench."})
        apply_topics(kafka.bootstrap, "bench.", TOPICS)
        create(kafka.bootstrap, "rows")
        peer = of_the_peer(python, kafka.bootstrap, "rows", latencies)
        bare = [of_the_bare_loop(kafka.bootstrap, "rows", rows)]
        ours, buckets, total_s = of_ours(settings, "rows", rows)
        service = of_the_service(kafka.bootstrap, "bench.", folder)
    theirs = peer["rows"] / peer["cpu_s"]
    found = quantiles(latencies, buckets, peer["text"])
    figures = {
        "bench": "stats",
        "rows": rows,
        "rows_per_cpu_s": {"ours": round(ours), "peer": round(theirs), "bare_loop": round(bare[0])},
        "times_the_peer": round(ours / theirs, 1),
        "of_the_bare_loop": round(ours / bare[0], 2),
        "sum_error_s": abs(total_s - sum(latencies)),
        "quantiles": found,
        **service,
        "bounds": BOUNDS,
    }
    fast = (
        figures["times_the_peer"] >= BOUNDS["times_the_peer"]
        or figures["of_the_bare_loop"] >= BOUNDS["of_the_bare_loop"]
    )
    small = all(service[name] <= BOUNDS[name] for name in ("to_metrics_p99_s", "scrape_ms", "restart_s", "memory_mb"))
    right = all(one["ours_in_its_bucket"] for one in found.values())
    figures["ok"] = fast and small and right
    print(json.dumps(figures))
    return 0 if figures["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
