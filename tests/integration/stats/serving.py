"""A sender of clearml-serving's messages with a ledger of its own, and replicas of the service that count them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer

from tests.integration.stats.conftest import Service

TOPIC = "clearml_inference_stats"
LATENCY = "trainyard_serving_latency_seconds_count"
REQUESTS = "trainyard_serving_requests_total"


def make_topic(bootstrap: str, name: str, partitions: int) -> None:
    """Create the topic as its owner would, with any number of partitions."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        options = {"num_partitions": partitions, "replication_factor": 1}
        admin.create_topics({name: options}, wait_for_metadata=True)
    finally:
        admin.close()


class Sender:
    """Publishes as clearml-serving does: no key, no headers, lz4 asked for, JSON lists of rows. Counts what it sent."""

    def __init__(self, bootstrap: str, topic: str, seed: int = 1) -> None:
        self.ledger: Counter[str] = Counter()
        self._topic = topic
        self._random = Random(seed)
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, compression_type="lz4")

    def send(self, rows: Sequence[Mapping[str, Any]], partition: int | None = None) -> None:
        """One message; its rows are in the ledger once it is acknowledged."""
        self._producer.send(self._topic, value=json.dumps(list(rows)).encode(), partition=partition).get(timeout=30)
        self.ledger.update(row["_url"] for row in rows)

    def send_bytes(self, value: bytes | None) -> None:
        """Anything."""
        self._producer.send(self._topic, value=value, key=b"k" if value is None else None).get(timeout=30)

    def some(self, messages: int, rows: int = 20, urls: Sequence[str] = ("a/1", "a/2", "b")) -> None:
        """Messages with that many rows each, without waiting for each one."""
        sent = []
        for _ in range(messages):
            batch = [
                {"_latency": round(self._random.expovariate(20), 4), "_count": 1, "_url": self._random.choice(urls)}
                for _ in range(rows)
            ]
            sent.append(self._producer.send(self._topic, value=json.dumps(batch).encode()))
            self.ledger.update(str(row["_url"]) for row in batch)
        for future in sent:
            future.get(timeout=60)

    def close(self) -> None:
        """Leave."""
        self._producer.close()


def replica(bootstrap: str, prefix: str, folder: Path, topic: str, **more: str) -> Service:
    """A service with a folder of its own that counts this topic."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Service(bootstrap, prefix, folder / "state")
    made.add(TRAINYARD_STATS_SERVING_SOURCES=f"default={topic}", TRAINYARD_STATS_CHECKPOINT_S="0.3", **more)
    return made


def requests_by_url(services: Sequence[Service], deployment: str | None = None) -> Counter[str]:
    """What the replicas show together, of all deployments or of one; endpoints that had no request are left out."""
    found: Counter[str] = Counter()
    for service in services:
        for (name, *labels), value in service.samples().items():
            if name == REQUESTS and deployment in (None, labels[0]):
                _, endpoint, _, version = labels
                found[f"{endpoint}/{version}" if version else endpoint] += int(value)
    return +found
