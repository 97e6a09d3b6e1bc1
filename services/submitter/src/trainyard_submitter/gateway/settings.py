"""The gateway's settings, from the environment."""

from __future__ import annotations

from pydantic import Field

from trainyard_runtime.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """What the gateway needs beside Kafka's and ClearML's own settings."""

    max_runs: int = Field(
        default=1_000,
        ge=1,
        le=100_000,
        validation_alias="TRAINYARD_GATEWAY_MAX_RUNS",
        description="Ended runs that are kept to be shown, the newest ones; runs that have not ended are always kept.",
    )
    max_streams: int = Field(
        default=100,
        ge=1,
        le=10_000,
        validation_alias="TRAINYARD_GATEWAY_MAX_STREAMS",
        description="Browsers that may follow the live events at a time; a further one is told to come again.",
    )
    resync_s: float = Field(
        default=30.0,
        gt=0,
        le=3_600,
        validation_alias="TRAINYARD_GATEWAY_RESYNC_S",
        description="Seconds between two looks at the log's end when nothing tells of new records.",
    )
    fleet_poll_s: float = Field(
        default=5.0,
        ge=1,
        le=3_600,
        validation_alias="TRAINYARD_GATEWAY_FLEET_POLL_S",
        description="Seconds between two looks at ClearML's queues and workers, while somebody watches.",
    )
