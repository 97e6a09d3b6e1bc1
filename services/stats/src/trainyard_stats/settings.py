"""The statistics service's settings, from the environment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, field_validator

from trainyard_runtime.kafka.settings import servers_of
from trainyard_runtime.settings import ServiceSettings

_SOURCE = re.compile(r"(?P<deployment>[\w.-]{1,60})=(?P<topic>[\w.-]{1,249})(?:@(?P<bootstrap>[^\s;@]+:\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class ServingSource:
    """Where one deployment of clearml-serving publishes; `bootstrap` is empty for the usual cluster."""

    deployment: str
    topic: str
    bootstrap: str


class StatsSettings(ServiceSettings):
    """What the statistics service needs beside Kafka's own settings."""

    resync_s: float = Field(
        default=30.0,
        gt=0,
        le=3_600,
        validation_alias="TRAINYARD_STATS_RESYNC_S",
        description="Seconds between two looks at the log's end when nothing tells of new records.",
    )
    serving_sources: str = Field(
        default="default=clearml_inference_stats",
        validation_alias="TRAINYARD_STATS_SERVING_SOURCES",
        description="Deployments of clearml-serving to count, DEPLOYMENT=TOPIC[@HOST:PORT], several separated by ';';"
        " none counts nothing.",
    )
    serving_bootstrap: str = Field(
        default="",
        validation_alias="CLEARML_DEFAULT_KAFKA_SERVE_URL",
        description="Kafka that clearml-serving publishes to, by its own name; TRAINYARD_KAFKA_BOOTSTRAP if not set.",
    )
    metric_logging_file: Path | None = Field(
        default=None,
        validation_alias="TRAINYARD_STATS_METRIC_LOGGING_FILE",
        description="File with clearml-serving's metric_logging (JSON or HOCON): custom metrics and sampling.",
    )
    serving_task_id: str = Field(
        default="",
        validation_alias="CLEARML_SERVING_TASK_ID",
        description="Control-plane task of clearml-serving whose metric_logging is used; read instead of the file.",
    )
    config_poll_s: float = Field(
        default=60.0,
        ge=1,
        le=86_400,
        validation_alias="TRAINYARD_STATS_CONFIG_POLL_S",
        description="Seconds between two looks at the file's or the control-plane task's metric_logging.",
    )
    checkpoint_s: float = Field(
        default=2.0,
        gt=0,
        le=600,
        validation_alias="TRAINYARD_STATS_CHECKPOINT_S",
        description="Seconds between two checkpoints of a partition that has news; what came since is read again after"
        " a crash.",
    )
    max_endpoints: int = Field(
        default=1_000,
        ge=1,
        le=10_000,
        validation_alias="TRAINYARD_STATS_MAX_ENDPOINTS",
        description="Endpoints that are counted apart per partition; further ones are counted together as (other).",
    )
    compatibility_names: bool = Field(
        default=False,
        validation_alias="TRAINYARD_STATS_COMPATIBILITY_NAMES",
        description="Whether latency and counts are also shown under clearml-serving's own names.",
    )
    fleet_poll_s: float = Field(
        default=15.0,
        ge=1,
        le=3_600,
        validation_alias="TRAINYARD_STATS_FLEET_POLL_S",
        description="Seconds between two looks at ClearML's queues and workers, consumer lags and dead letters.",
    )

    @field_validator("serving_bootstrap")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return servers_of(value) if value.strip() else ""

    @field_validator("serving_sources")
    @classmethod
    def _are_sources(cls, value: str) -> str:
        deployments = [source.deployment for source in _sources(value)]
        if len(set(deployments)) != len(deployments):
            raise ValueError("two sources bear the same deployment's name")
        return value

    def sources(self) -> tuple[ServingSource, ...]:
        """The deployments to count."""
        return tuple(_sources(self.serving_sources))


def _sources(text: str) -> list[ServingSource]:
    found = []
    for part in text.split(";") if text.strip() not in ("", "none") else ():
        match = _SOURCE.fullmatch(part.strip())
        if match is None:
            raise ValueError("write it as DEPLOYMENT=TOPIC or DEPLOYMENT=TOPIC@HOST:PORT, separated by ';', or 'none'")
        found.append(ServingSource(match["deployment"], match["topic"], match["bootstrap"] or ""))
    return found
