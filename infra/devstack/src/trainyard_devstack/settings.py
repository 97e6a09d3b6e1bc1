"""The stack's settings, from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from trainyard_runtime.settings import EnvironmentSettings
from trainyard_schemas.topics import DEFAULT_PREFIX

CHECKOUT = Path(__file__).resolve().parents[4]
"""The checkout, where the package is installed from one (editable), as `./trainyard` does."""


class StackSettings(EnvironmentSettings):
    """Where the stack lives and what it may touch."""

    home: Path = Field(
        default_factory=lambda: Path.cwd() / ".trainyard",
        validation_alias="TRAINYARD_HOME",
        description="Folder of the stack's data, logs and keys; `.trainyard` in the checkout if not set.",
    )
    topic_prefix: str = Field(
        default=DEFAULT_PREFIX,
        validation_alias="TRAINYARD_TOPIC_PREFIX",
        description="What every topic's name begins with, its dot included.",
    )
    data_roots: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        validation_alias="TRAINYARD_DATA_ROOTS",
        description=f"Folders besides the checkout's examples that local data may lie in, separated by '{os.pathsep}'.",
    )
    kafka_port: int = Field(
        default=0,
        ge=0,
        le=65_535,
        validation_alias="TRAINYARD_KAFKA_PORT",
        description="Port of the embedded Kafka; 0 takes a free one and keeps it between starts.",
    )
    page_port: int = Field(
        default=0,
        ge=0,
        le=65_535,
        validation_alias="TRAINYARD_PAGE_PORT",
        description="Port of the run page; 0 takes a free one and keeps it between starts.",
    )
    ready_timeout_s: float = Field(
        default=90.0,
        gt=0,
        validation_alias="TRAINYARD_UP_TIMEOUT_S",
        description="Seconds within which the whole stack must be ready.",
    )

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @field_validator("data_roots", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part for part in value.split(os.pathsep) if part)
        return value

    def allowed_data_roots(self) -> tuple[str, ...]:
        """The checkout's examples, and what was set besides."""
        return tuple(dict.fromkeys((str(CHECKOUT / "examples"), *self.data_roots)))
