"""Exactness under kills: rows are sent, replicas come, go and die, and what they show together equals the ledger.

`python -m tests.faults.stats.campaign --rows 1000000 --kills 50 --replicas 3` prints one line; exit 1 where it differs.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.integration.stats.conftest import Service
from tests.integration.stats.serving import Sender, make_topic, replica, requests_by_url
from trainyard_devstack.kafka_broker import EmbeddedKafka
from trainyard_runtime.kafka.admin import apply_topics
from trainyard_schemas.topics import TOPICS

PARTITIONS = 4
WINDOWS = ("Q1", "Q2")
READY_S = 20.0
FAILPOINT_S = 5.0
SETTLE_S = 120.0


@dataclass(slots=True)
class Outcome:
    """What was done and found."""

    rows: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    expected: Counter[str] = field(default_factory=Counter)
    shown: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def is_exact(self) -> bool:
        return self.expected == self.shown

    def as_json(self) -> dict[str, object]:
        """The one line."""
        return {
            "campaign": "stats",
            "rows": self.rows,
            "kills": dict(self.kills),
            "expected": sum(self.expected.values()),
            "shown": sum(self.shown.values()),
            "exact": self.is_exact,
            "seconds": round(self.seconds, 1),
        }


def run(bootstrap: str, folder: Path, *, rows: int, kills: int, replicas: int, seed: int = 1) -> Outcome:
    """Send about `rows` or more in parts, each with a fault beside it, until so many were killed; settle; compare."""
    random = Random(seed)
    prefix = f"campaign{uuid.uuid4().hex[:8]}."
    topic = f"{prefix}foreign"
    apply_topics(bootstrap, prefix, TOPICS)
    make_topic(bootstrap, topic, PARTITIONS)
    sender = Sender(bootstrap, topic, seed)
    services = [replica(bootstrap, prefix, folder / f"replica{n}", topic) for n in range(replicas)]
    outcome = Outcome()
    began = time.monotonic()
    rows_per_message = 50
    try:
        services[0].start()
        while sum(outcome.kills.values()) < kills:
            part = max(1, rows // kills // rows_per_message)
            with ThreadPoolExecutor(1) as pool:
                sending = pool.submit(sender.some, part, rows_per_message, [f"e{n}/{n % 3}" for n in range(20)])
                outcome.kills += _disturb(random, services)
                sending.result()
        for service in services:
            if not _lives(service):
                service.start()
        give_up_at = time.monotonic() + SETTLE_S
        while (found := requests_by_url(services)) != sender.ledger and time.monotonic() < give_up_at:
            time.sleep(0.3)
        outcome.rows, outcome.shown, outcome.expected = sum(sender.ledger.values()), found, sender.ledger.copy()
    finally:
        for service in services:
            service.kill()
        sender.close()
    outcome.seconds = time.monotonic() - began
    return outcome


def _disturb(random: Random, services: list[Service]) -> Counter[str]:
    """Do something to a replica while rows are sent; what was killed.

    A running one is killed or ended, mostly when it works already, else while it starts; one that is down is started,
    and may bear a failpoint that kills it at one of its next checkpoints.
    """
    service = random.choice(services)
    if _lives(service):
        if random.random() < 0.75:
            _wait(lambda: service.get("/readyz")[0] == 200 or not _lives(service), READY_S)
        if _lives(service):
            number = random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
            service.end(number)
            return Counter([number.name])
    window = random.choice((*WINDOWS, ""))
    service.start(**({"TRAINYARD_FAILPOINT": f"{window}:kill@{random.randint(1, 3)}"} if window else {}))
    if window:
        _wait(lambda: not _lives(service), FAILPOINT_S)
    return Counter() if _lives(service) else Counter([window])


def _wait(condition: Callable[[], bool], deadline_s: float) -> None:
    give_up_at = time.monotonic() + deadline_s
    while not condition() and time.monotonic() < give_up_at:
        time.sleep(0.05)


def _lives(service: Service) -> bool:
    return service.process is not None and service.process.poll() is None


def main() -> int:
    """Print one line; exit 1 where what is shown is not what was sent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trainyard-campaign-") as folder:
        place = Path(folder)
        with EmbeddedKafka(place / "kafka") as kafka:
            outcome = run(
                kafka.bootstrap,
                place,
                rows=options.rows,
                kills=options.kills,
                replicas=options.replicas,
                seed=options.seed,
            )
    print(json.dumps(outcome.as_json()))
    return 0 if outcome.is_exact else 1


if __name__ == "__main__":
    sys.exit(main())
