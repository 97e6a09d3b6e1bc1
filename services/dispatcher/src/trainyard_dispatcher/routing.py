"""Which queue and which image a run goes to. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainyard_schemas.trainers import TRAINERS


@dataclass(frozen=True, slots=True)
class Routing:
    """The routing table.

    `by_trainer` is what the environment says for one trainer, `agents` the names of the agents' queues by kind (`cpu`,
    `gpu`, `services`), `default_queue` what remains. `images` overrides the container image of one trainer;
    `container_arguments` are what every task's container is started with.
    """

    by_trainer: Mapping[str, str]
    agents: Mapping[str, str]
    default_queue: str
    images: Mapping[str, str]
    container_arguments: str = ""

    def queue(self, request: Mapping[str, Any]) -> str:
        """The queue's name: by the request, else the environment, else the table of trainers, else the default."""
        asked = request.get("queue")
        if isinstance(asked, str) and asked:
            return asked
        trainer = str(request.get("trainer"))
        if trainer in self.by_trainer:
            return self.by_trainer[trainer]
        known = TRAINERS.get(trainer)
        if known is not None:
            return self.agents.get(known.queue, self.default_queue)
        return self.default_queue

    def image(self, trainer: str) -> str:
        """The container image that an agent runs the trainer in."""
        return self.images.get(trainer, f"f3.{trainer}-trainer:latest")

    @property
    def queues(self) -> frozenset[str]:
        """Every queue that a request which names none can go to."""
        routed = {self.queue({"trainer": name}) for name in TRAINERS}
        return frozenset(routed | {self.default_queue})
