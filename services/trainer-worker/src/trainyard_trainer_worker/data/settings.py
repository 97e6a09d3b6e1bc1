"""How a worker gets at remote data, from the environment. S3's names are those that every S3 client reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from trainyard_runtime.settings import EnvironmentSettings
from trainyard_trainer_worker.data.addresses import PrivateHosts, web_address

MAX_FILE_BYTES = 1 << 30
"""What the training child reads at most."""


class DataSettings(EnvironmentSettings):
    """Where fetched data is kept, what may be fetched from, and the worker's S3."""

    cache_dir: Path | None = Field(
        default=None,
        validation_alias="TRAINYARD_DATA_CACHE_DIR",
        description="Folder of fetched data, which workers of one host may share; `data` in the state folder, or a "
        "temporary one.",
    )
    cache_max_bytes: int = Field(
        default=10 << 30,
        ge=0,
        validation_alias="TRAINYARD_DATA_CACHE_MAX_BYTES",
        description="Most bytes of fetched data that are kept; what was used longest ago goes first.",
    )
    max_file_bytes: int = Field(
        default=MAX_FILE_BYTES,
        gt=0,
        le=MAX_FILE_BYTES,
        validation_alias="TRAINYARD_DATA_MAX_FILE_BYTES",
        description="Most bytes of one data file, and of one archive of a ClearML dataset.",
    )
    stall_timeout_s: float = Field(
        default=30.0,
        gt=0,
        le=600,
        allow_inf_nan=False,
        validation_alias="TRAINYARD_DATA_STALL_TIMEOUT_S",
        description="Seconds that a download may stand still.",
    )
    private_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        validation_alias="TRAINYARD_DATA_PRIVATE_HOSTS",
        description="Hosts (or host:port), separated by commas, that data may be fetched from although their addresses "
        "are private; all others must be public. ClearML's file server and AWS_ENDPOINT_URL need no entry.",
    )
    files_aliases: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        validation_alias="TRAINYARD_DATA_FILES_ALIASES",
        description="Other addresses, separated by commas, under which clients know ClearML's file server, such as "
        "http://localhost:8081; the worker reads them from CLEARML_FILES_HOST.",
    )
    s3_endpoint: str = Field(
        default="",
        validation_alias="AWS_ENDPOINT_URL",
        description="Address of the S3 that s3:// means; AWS's own if not set.",
    )
    s3_region: str = Field(
        default="us-east-1",
        pattern=r"^[a-z0-9-]{2,32}$",
        validation_alias="AWS_REGION",
        description="Region of the S3 buckets.",
    )
    s3_access_key: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="AWS_ACCESS_KEY_ID",
        description="Access key for S3; it stays in the worker, training processes do not see it.",
    )
    s3_secret_key: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="AWS_SECRET_ACCESS_KEY",
        description="Secret key for S3.",
    )
    s3_session_token: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="AWS_SESSION_TOKEN",
        description="Session token that belongs to temporary S3 keys.",
    )
    s3_anonymous: bool = Field(
        default=False,
        validation_alias="TRAINYARD_DATA_WITHOUT_KEYS",
        description="Whether S3 is read without keys: public buckets only.",
    )

    @field_validator("private_hosts", "files_aliases", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        return value

    @field_validator("private_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        PrivateHosts.parse(value)
        return value

    @field_validator("files_aliases")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            web_address(address)
        return value

    @field_validator("s3_endpoint")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value:
            web_address(value)
        return value.rstrip("/")

    @field_validator("cache_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError("must be an absolute path")
        return value

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no log may show."""
        kept = (self.s3_access_key, self.s3_secret_key, self.s3_session_token)
        return tuple(secret.get_secret_value() for secret in kept)
