"""The statistics service's settings, from the environment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from trainyard_runtime.kafka.settings import servers_of
from trainyard_runtime.settings import ServiceSettings

_PAIR = re.compile(r"(?P<deployment>[\w.-]{1,60})=(?P<value>.*)", re.DOTALL)
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
    metric_logging_file: str = Field(
        default="",
        validation_alias="TRAINYARD_STATS_METRIC_LOGGING_FILE",
        description="File with clearml-serving's metric_logging (JSON or HOCON): custom metrics and sampling; with"
        " several deployments DEPLOYMENT=FILE, separated by ';'.",
    )
    serving_task_id: str = Field(
        default="",
        validation_alias="CLEARML_SERVING_TASK_ID",
        description="Control-plane task of clearml-serving whose metric_logging is used, read instead of the file, and"
        " whose instances are counted; with several deployments DEPLOYMENT=TASK, separated by ';'.",
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

    fleet_seen_s: int = Field(
        default=100,
        ge=1,
        le=3_600,
        validation_alias="TRAINYARD_STATS_FLEET_SEEN_S",
        description="Seconds without a sign of life after which a worker, or an instance of clearml-serving, is gone;"
        " they give one every 30 s.",
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

    @field_validator("metric_logging_file", "serving_task_id")
    @classmethod
    def _is_of_a_deployment(cls, value: str, info: ValidationInfo) -> str:
        if "serving_sources" in info.data:  # else that is what is said to be wrong
            _by_deployment(value, _sources(info.data["serving_sources"]))
        return value

    def sources(self) -> tuple[ServingSource, ...]:
        """The deployments to count."""
        return tuple(_sources(self.serving_sources))

    def metric_logging_files(self) -> dict[str, Path]:
        """The files of the deployments that have one."""
        return {name: Path(file) for name, file in _by_deployment(self.metric_logging_file, self.sources()).items()}

    def serving_tasks(self) -> dict[str, str]:
        """The ids of the control-plane tasks of the deployments that have one."""
        return _by_deployment(self.serving_task_id, self.sources())


def _by_deployment(text: str, sources: Sequence[ServingSource]) -> dict[str, str]:
    """The values of `A=VALUE;B=VALUE`, or one bare value where there is one deployment; with none it is nobody's."""
    names = [source.deployment for source in sources]
    parts = [part.strip() for part in text.split(";") if part.strip()]
    pairs = [match for part in parts if (match := _PAIR.fullmatch(part)) is not None]
    if not pairs and len(parts) <= 1 and len(names) <= 1:
        return dict.fromkeys(names, parts[0]) if parts else {}
    found = {match["deployment"]: match["value"].strip() for match in pairs}
    wrong = ""
    if len(pairs) < len(parts):
        wrong = "a value names no deployment"
    elif strangers := sorted(found.keys() - set(names)):
        wrong = f"{strangers[0]} is no deployment of TRAINYARD_STATS_SERVING_SOURCES"
    elif len(found) < len(pairs):
        wrong = "a deployment is named twice"
    elif not all(found.values()):
        wrong = "a deployment has no value"
    if wrong:
        form = ";".join(f"{name}=VALUE" for name in names)
        raise ValueError(f"{wrong}; write {form or 'nothing, for no deployment is counted'}")
    return found


def _sources(text: str) -> list[ServingSource]:
    found = []
    for part in text.split(";") if text.strip() not in ("", "none") else ():
        match = _SOURCE.fullmatch(part.strip())
        if match is None:
            raise ValueError("write it as DEPLOYMENT=TOPIC or DEPLOYMENT=TOPIC@HOST:PORT, separated by ';', or 'none'")
        found.append(ServingSource(match["deployment"], match["topic"], match["bootstrap"] or ""))
    return found
