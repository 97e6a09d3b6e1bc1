"""The dispatcher's settings: one class, read from the environment, all with units in their names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from trainyard_dispatcher.known import Limits
from trainyard_dispatcher.routing import Routing
from trainyard_runtime.settings import ServiceSettings

MISSPELT: Mapping[str, str] = {
    "CLEARML_QUEUE_AUTOGLOUON": "CLEARML_QUEUE_AUTOGLUON",
    "AUTOGLOUON_IMAGE": "AUTOGLUON_IMAGE",
}
"""Variables that were once published with a spelling mistake, and the right one; the right one wins."""

TASK_CONTAINER_ARGS = " ".join(
    f"--env={name}"
    for name in (
        "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL=1",
        "TRAINYARD_KAFKA_BOOTSTRAP",
        "TRAINYARD_TOPIC_PREFIX",
        "TRAINYARD_KAFKA_SECURITY_PROTOCOL",
        "TRAINYARD_KAFKA_SASL_MECHANISM",
        "TRAINYARD_KAFKA_USERNAME",
        "TRAINYARD_KAFKA_PASSWORD",
    )
)
"""Docker takes the value of a variable that is only named from the agent's own environment: no secret is in a task."""

_SECRET = re.compile(r"SECRET|PASSWORD|TOKEN|ACCESS_KEY|API_KEY|CREDENTIAL", re.IGNORECASE)
_ENVIRONMENT_OPTION = re.compile(r"(?:^|\s)(?:-e|--env)[\s=]*[\"']?(\w+)=")


class DispatcherSettings(ServiceSettings):
    """What the dispatcher needs beside Kafka's and ClearML's own settings."""

    tenant: str = Field(
        default="default",
        min_length=1,
        max_length=64,
        validation_alias="TRAINYARD_TENANT",
        description="Tenant of the requests on this prefix's topics; part of every run's identity.",
    )
    max_queue_depth: int = Field(
        default=100,
        ge=1,
        le=100_000,
        validation_alias="TRAINYARD_MAX_QUEUE_DEPTH",
        description="Most runs that stand in one ClearML queue; the rest waits in Kafka, where order can still change.",
    )
    unknown_queue: Literal["reject", "create"] = Field(
        default="reject",
        validation_alias="TRAINYARD_UNKNOWN_QUEUE",
        description="What happens to a run whose queue does not exist in ClearML: reject it, or create the queue.",
    )
    action_concurrency: int = Field(
        default=16,
        ge=1,
        le=256,
        validation_alias="TRAINYARD_ACTION_CONCURRENCY",
        description="Most actions against ClearML and Kafka that the planner has under way at once.",
    )
    close_grace_s: float = Field(
        default=15.0,
        ge=0,
        le=3_600,
        validation_alias="TRAINYARD_CLOSE_GRACE_S",
        description="How long a worker may take to close an ended run's task before the planner does it, in seconds.",
    )
    lease_s: float = Field(
        default=60.0,
        ge=2,
        le=3_600,
        validation_alias="TRAINYARD_LEASE_S",
        description="How long a worker may train without having read the log; longer outages freeze the training.",
    )
    silence_s: float = Field(
        default=90.0,
        ge=12,
        le=86_400,
        validation_alias="TRAINYARD_SILENCE_S",
        description="How long a worker may give no sign of life before its attempt is given up as lost, in seconds; "
        "it gives one every 10 s.",
    )
    pop_grace_s: float = Field(
        default=30.0,
        ge=1,
        le=3_600,
        validation_alias="TRAINYARD_POP_GRACE_S",
        description="How long a task may be out of its queue unclaimed before it is queued again, in seconds.",
    )
    agent_grace_s: float = Field(
        default=300.0,
        ge=1,
        le=86_400,
        validation_alias="TRAINYARD_AGENT_GRACE_S",
        description="The same where an agent has begun the task, since ClearML's last sign of life of it, in seconds.",
    )
    cancel_grace_s: float = Field(
        default=30.0,
        ge=1,
        le=3_600,
        validation_alias="TRAINYARD_CANCEL_GRACE_S",
        description="How long a worker may take to end a cancelled run before the planner says so, in seconds.",
    )
    survey_every_s: float = Field(
        default=10.0,
        ge=0.2,
        le=3_600,
        validation_alias="TRAINYARD_SURVEY_EVERY_S",
        description="Seconds between two looks at ClearML's tasks and queues: what users did there, and litter.",
    )
    cpu_queue: str = Field(
        default="cpu", min_length=1, validation_alias="CLEARML_CPU_QUEUE", description="Name of the CPU agents' queue."
    )
    gpu_queue: str = Field(
        default="gpu", min_length=1, validation_alias="CLEARML_GPU_QUEUE", description="Name of the GPU agents' queue."
    )
    services_queue: str = Field(
        default="services",
        min_length=1,
        validation_alias="CLEARML_SERVICES_QUEUE",
        description="Name of the queue of the agents that run services.",
    )
    default_queue: str = Field(
        default="default",
        min_length=1,
        validation_alias="CLEARML_DEFAULT_QUEUE",
        description="Queue of the runs that nothing else routes.",
    )
    queue_autogluon: str | None = Field(
        default=None, validation_alias="CLEARML_QUEUE_AUTOGLUON", description="Queue of AutoGluon runs."
    )
    queue_autogluon_misspelt: str | None = Field(
        default=None,
        validation_alias="CLEARML_QUEUE_AUTOGLOUON",
        description="The same under a spelling mistake that was once published; deprecated.",
    )
    queue_flaml: str | None = Field(
        default=None, validation_alias="CLEARML_QUEUE_FLAML", description="Queue of FLAML runs."
    )
    queue_sklearn: str | None = Field(
        default=None, validation_alias="CLEARML_QUEUE_SKLEARN", description="Queue of scikit-learn runs."
    )
    queue_ultralytics: str | None = Field(
        default=None, validation_alias="CLEARML_QUEUE_ULTRALYTICS", description="Queue of Ultralytics runs."
    )
    image_autogluon: str | None = Field(
        default=None, validation_alias="AUTOGLUON_IMAGE", description="Container image of AutoGluon runs."
    )
    image_autogluon_misspelt: str | None = Field(
        default=None,
        validation_alias="AUTOGLOUON_IMAGE",
        description="The same under a spelling mistake that was once published; deprecated.",
    )
    image_flaml: str | None = Field(
        default=None, validation_alias="FLAML_IMAGE", description="Container image of FLAML runs."
    )
    image_sklearn: str | None = Field(
        default=None, validation_alias="SKLEARN_IMAGE", description="Container image of scikit-learn runs."
    )
    image_ultralytics: str | None = Field(
        default=None, validation_alias="ULTRALYTICS_IMAGE", description="Container image of Ultralytics runs."
    )
    task_container_args: str = Field(
        default=TASK_CONTAINER_ARGS,
        max_length=10_000,
        validation_alias="TRAINYARD_TASK_CONTAINER_ARGS",
        description="Arguments of docker run that every task names for a clearml-agent in docker mode; no secrets.",
    )

    @field_validator("task_container_args")
    @classmethod
    def _no_secrets(cls, value: str) -> str:
        for name in _ENVIRONMENT_OPTION.findall(value):
            if _SECRET.search(name):
                raise ValueError(
                    f"{name} has a value here, and everybody in ClearML can read a task: write --env={name} without one"
                    " and set the variable for the agent, or use the agent's CLEARML_AGENT_EXTRA_DOCKER_ARGS"
                )
        return value

    def routing(self) -> Routing:
        """The routing table of these settings."""
        queues = {
            "autogluon": self.queue_autogluon or self.queue_autogluon_misspelt,
            "flaml": self.queue_flaml,
            "sklearn": self.queue_sklearn,
            "ultralytics": self.queue_ultralytics,
        }
        images = {
            "autogluon": self.image_autogluon or self.image_autogluon_misspelt,
            "flaml": self.image_flaml,
            "sklearn": self.image_sklearn,
            "ultralytics": self.image_ultralytics,
        }
        return Routing(
            by_trainer={trainer: queue for trainer, queue in queues.items() if queue},
            agents={"cpu": self.cpu_queue, "gpu": self.gpu_queue, "services": self.services_queue},
            default_queue=self.default_queue,
            images={trainer: image for trainer, image in images.items() if image},
            container_arguments=self.task_container_args,
        )

    def limits(self) -> Limits:
        """The planner's limits of these settings."""
        return Limits(
            max_queue_depth=self.max_queue_depth,
            close_grace_s=self.close_grace_s,
            lease_s=self.lease_s,
            silence_s=self.silence_s,
            pop_grace_s=self.pop_grace_s,
            agent_grace_s=self.agent_grace_s,
            cancel_grace_s=self.cancel_grace_s,
        )


def deprecations(environment: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each misspelt variable that is set."""
    variables = os.environ if environment is None else environment
    return [
        f"{wrong} is a spelling mistake of the past; set {right}"
        + (", which is set too and wins" if variables.get(right) else "")
        for wrong, right in MISSPELT.items()
        if variables.get(wrong)
    ]
