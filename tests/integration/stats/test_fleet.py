"""Workers and instances of clearml-serving that live are shown, those that fell silent are not."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.behaviour.clearml.raw import Raw
from tests.behaviour.clearml.server import ClearMLServer
from tests.integration.stats.conftest import Service
from trainyard_runtime.kafka.admin import apply_topics
from trainyard_schemas.topics import TOPICS

SEEN_S = 3


@pytest.fixture
def watching(service: Service, kafka_bootstrap: str, topic_prefix: str, clearml_server: ClearMLServer) -> Service:
    """A service, not started, that looks at ClearML every second and takes who is silent for SEEN_S for gone."""
    apply_topics(kafka_bootstrap, topic_prefix, TOPICS)
    service.add(
        **clearml_server.environment(),
        TRAINYARD_STATS_FLEET_POLL_S="1",
        TRAINYARD_STATS_FLEET_SEEN_S=str(SEEN_S),
    )
    return service


def kept_alive(sign: Callable[[], Any], condition: Callable[[], bool]) -> Callable[[], bool]:
    """The condition, with a sign of life before each time that it is asked."""

    def asked() -> bool:
        sign()
        return condition()

    return asked


def test_a_worker_that_stopped_reporting_disappears_and_a_living_one_stays(
    watching: Service, clearml_server: ClearMLServer
) -> None:
    clearml, name = Raw(clearml_server), f"q-{uuid.uuid4().hex}"
    queue = clearml.ok("queues.create", name=name)["id"]
    task = clearml.ok("tasks.create", name="runs", type="training")["id"]

    def report(worker: str, **more: str) -> None:
        now_ms = int(time.time() * 1000)
        clearml.ok("workers.status_report", worker=f"{name}:{worker}", queues=[queue], timestamp=now_ms, **more)

    def workers() -> tuple[float | None, float | None]:
        found = watching.samples()
        return tuple(found.get(("trainyard_queue_workers", name, state)) for state in ("busy", "idle"))  # type: ignore[return-value]

    def living() -> None:
        report("living", task=task)

    for worker in ("killed", "living"):
        clearml.ok("workers.register", worker=f"{name}:{worker}", queues=[queue], timeout=600)
    watching.start()

    def both() -> None:
        living()
        report("killed")

    watching.until(kept_alive(both, lambda: workers() == (1, 1)), "both are shown")
    watching.until(kept_alive(living, lambda: workers() == (1, 0)), "the silent one is gone, the living one is there")
    watching.until(lambda: workers() == (0, 0), "both are silent")


def test_instances_of_clearml_serving_that_live_are_counted_for_their_deployment(
    watching: Service, clearml_server: ClearMLServer, topic_prefix: str
) -> None:
    clearml = Raw(clearml_server)
    project, other = (clearml.ok("projects.create", name=f"p-{uuid.uuid4().hex}")["id"] for _ in range(2))

    def started(name: str, kind: str, place: str) -> str:
        task = str(clearml.ok("tasks.create", name=name, type=kind, project=place, system_tags=["service"])["id"])
        clearml.ok("tasks.started", task=task, force=True)
        return task

    control = started("fraud (EU)", "service", project)
    idle = started("idle", "service", project)
    alive = [started("fraud (EU) - serve instance", "inference", project) for _ in range(2)]
    strangers = [
        started("fraud (EU) - serve instance", "inference", other),
        started("fraud (EU) - statistics controller", "monitor", project),
        started("fraud (US) - serve instance", "inference", project),
        started("fraud (EU) - serve instance", "training", project),
    ]
    ended = started("fraud (EU) - serve instance", "inference", project)
    clearml.ok("tasks.completed", task=ended)
    sources = ";".join(f"{name}={topic_prefix}{name}" for name in ("blue", "green", "gone", "bare"))
    watching.add(
        TRAINYARD_STATS_SERVING_SOURCES=sources,
        CLEARML_SERVING_TASK_ID=f"blue={control};green={idle};gone={uuid.uuid4().hex}",
    )
    watching.start()

    def ping(*tasks: str) -> Callable[[], None]:
        def sign() -> None:
            for task in tasks:
                clearml.ok("tasks.ping", task=task)

        return sign

    def instances() -> dict[str, float]:
        name = "trainyard_serving_instances"
        return {key[1]: value for key, value in watching.samples().items() if key[0] == name}

    everyone = ping(*alive, *strangers)
    watching.until(kept_alive(everyone, lambda: instances() == {"blue": 2, "green": 0}), "two instances live")
    one_less = ping(alive[0], *strangers)
    watching.until(kept_alive(one_less, lambda: instances() == {"blue": 1, "green": 0}), "one was killed: it is silent")
    clearml.ok("tasks.completed", task=alive[0])
    watching.until(kept_alive(ping(*strangers), lambda: instances() == {"blue": 0, "green": 0}), "one has ended")
