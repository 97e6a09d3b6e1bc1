"""The statistics service's settings, from the environment."""

from __future__ import annotations

from pydantic import Field

from trainyard_runtime.settings import ServiceSettings


class StatsSettings(ServiceSettings):
    """What the statistics service needs beside Kafka's own settings."""

    resync_s: float = Field(
        default=30.0,
        gt=0,
        le=3_600,
        validation_alias="TRAINYARD_STATS_RESYNC_S",
        description="Seconds between two looks at the log's end when nothing tells of new records.",
    )
