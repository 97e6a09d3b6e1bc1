"""The worker's settings, from the environment."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from trainyard_runtime.settings import ServiceSettings
from trainyard_schemas.trainers import TRAINERS
from trainyard_trainer_worker.usage import default_memory_limit_bytes

DEFAULT_QUEUES = ("cpu", "services", "default")
QUEUE_NAME_MIN, QUEUE_NAME_MAX = 3, 128


class TrainerWorkerSettings(ServiceSettings):
    """What one trainer worker serves, where it works and what its children may use."""

    queues: Annotated[tuple[str, ...], NoDecode] = Field(
        default=DEFAULT_QUEUES,
        min_length=1,
        validation_alias="TRAINYARD_WORKER_QUEUES",
        description="ClearML queues to serve, separated by commas, the first first.",
    )
    worker_name: str = Field(
        default="",
        max_length=200,
        validation_alias="TRAINYARD_WORKER_NAME",
        description="Name under which ClearML shows this worker; <host>:trainyard-<id> if not set.",
    )
    poll_s: float = Field(
        default=5.0,
        gt=0,
        le=300,
        validation_alias="TRAINYARD_WORKER_POLL_S",
        description="Seconds between two looks at the queues when the log wakes nobody.",
    )
    work_dir: Path | None = Field(
        default=None,
        validation_alias="TRAINYARD_WORK_DIR",
        description="Folder for the files of running attempts; `work` in the state folder, or a temporary one.",
    )
    data_roots: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        validation_alias="TRAINYARD_DATA_ROOTS",
        description=f"Folders that local data may lie in, separated by '{os.pathsep}'.",
    )
    slots: int = Field(
        default=1,
        ge=1,
        le=256,
        validation_alias="TRAINYARD_WORKER_SLOTS",
        description="Attempts that may run side by side; each shows as a worker in ClearML.",
    )
    drain_s: float = Field(
        default=0.0,
        ge=0,
        le=7 * 86_400,
        validation_alias="TRAINYARD_WORKER_DRAIN_S",
        description="Seconds that running attempts get to finish after SIGTERM; 0 where the host is going.",
    )
    n_jobs: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        validation_alias="TRAINYARD_WORKER_N_JOBS",
        description="Threads that a training may use; the number of cores divided by the slots if not set.",
    )
    memory_limit_bytes: int | None = Field(
        default=None,
        ge=64 << 20,
        validation_alias="TRAINYARD_WORKER_MEMORY_LIMIT_BYTES",
        description="Most private memory of one training's processes; 80 % of the host's, divided by the slots, if not "
        "set.",
    )
    preload: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        validation_alias="TRAINYARD_WORKER_PRELOAD",
        description="Trainers whose libraries are loaded at the start, separated by commas; else at their first run.",
    )
    trainer_pythons: Annotated[Mapping[str, Path], NoDecode] = Field(
        default={},
        validation_alias="TRAINYARD_TRAINER_PYTHONS",
        description="Interpreters of trainers that have an environment of their own, as flaml=/path/to/python,...",
    )
    default_deadline_s: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        validation_alias="TRAINYARD_WORKER_DEADLINE_S",
        description="Seconds an attempt may take whose request says nothing; 3 time budgets + 600 s if not set.",
    )
    model_tags: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        validation_alias="CLEARML_MODEL_TAGS",
        description="Tags of every registered model, separated by commas, such as candidate.",
    )
    model_publish: bool = Field(
        default=False,
        validation_alias="CLEARML_MODEL_PUBLISH",
        description="Whether every registered model is published (ready) at once.",
    )

    @field_validator("queues", "model_tags", "preload", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        return value

    @field_validator("data_roots", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part for part in value.split(os.pathsep) if part)
        return value

    @field_validator("preload")
    @classmethod
    def _known_trainers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in TRAINERS:
                raise ValueError(f"unknown trainer; there are {', '.join(sorted(TRAINERS))}")
        return value

    @field_validator("trainer_pythons", mode="before")
    @classmethod
    def _split_pairs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if any(not sign or name.strip() not in TRAINERS or not path.strip() for name, sign, path in pairs):
            raise ValueError(f"write trainer=/path/to/python, with one of {', '.join(sorted(TRAINERS))}")
        return {name.strip(): path.strip() for name, _, path in pairs}

    @field_validator("queues")
    @classmethod
    def _names_that_clearml_takes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not QUEUE_NAME_MIN <= len(name) <= QUEUE_NAME_MAX:
                raise ValueError(f"queue names have {QUEUE_NAME_MIN} to {QUEUE_NAME_MAX} characters")
        return value

    @field_validator("data_roots")
    @classmethod
    def _folders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for root in value:
            if not Path(root).is_absolute():
                raise ValueError("every folder must be an absolute path")
        return value

    def threads_per_slot(self) -> int:
        """Threads that each training may use."""
        return self.n_jobs if self.n_jobs is not None else max(1, (os.cpu_count() or 1) // self.slots)

    def memory_limit_per_slot(self) -> int:
        """Bytes of private memory that each training's processes may hold together."""
        return self.memory_limit_bytes or default_memory_limit_bytes() // self.slots

    def slot_names(self) -> tuple[str, ...]:
        """Under which names ClearML shows the slots: the worker's name, then it with `:1`, `:2`, ..."""
        name = self.name()
        return (name, *(f"{name}:{index}" for index in range(1, self.slots)))

    def name(self) -> str:
        """The worker's name; the same at every start with the same state folder."""
        if self.worker_name:
            return self.worker_name
        if self.state_dir is None:
            own = str(os.getpid())
        else:
            own = hashlib.sha256(str(self.state_dir.resolve()).encode()).hexdigest()[:6]
        return f"{socket.gethostname()}:trainyard-{own}"
