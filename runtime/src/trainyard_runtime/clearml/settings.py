"""Where ClearML is and who we are there; the names are the SDK's own environment variables."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class ClearMLSettings(BaseSettings):
    """Addresses, credentials and time limits of the REST client."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, extra="ignore")

    api_host: str = Field(
        default="http://127.0.0.1:8008",
        validation_alias="CLEARML_API_HOST",
        description="Address of ClearML's API server.",
    )
    files_host: str = Field(
        default="http://127.0.0.1:8081",
        validation_alias="CLEARML_FILES_HOST",
        description="Address of ClearML's file server.",
    )
    access_key: str = Field(
        default="",
        validation_alias="CLEARML_API_ACCESS_KEY",
        description="Access key of the credentials (ClearML UI: Settings, Workspace, App credentials).",
    )
    secret_key: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="CLEARML_API_SECRET_KEY",
        description="Secret key of the credentials.",
    )
    connect_timeout_s: float = Field(
        default=3.0,
        gt=0,
        validation_alias="TRAINYARD_CLEARML_CONNECT_TIMEOUT_S",
        description="How long a connection may take; after that the call was certainly not executed.",
    )
    timeout_s: float = Field(
        default=20.0,
        gt=0,
        validation_alias="TRAINYARD_CLEARML_TIMEOUT_S",
        description="How long an answer may take; after that an effect's outcome is unknown.",
    )
    transfer_timeout_s: float = Field(
        default=60.0,
        gt=0,
        validation_alias="TRAINYARD_CLEARML_TRANSFER_TIMEOUT_S",
        description="How long an upload or download may stand still.",
    )

    @field_validator("api_host", "files_host")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        value = value.strip().rstrip("/")
        if not value.startswith(("http://", "https://")):
            raise ValueError("must be an address like http://127.0.0.1:8008 or https://clearml.example")
        parts = urlsplit(value)
        if "@" in parts.netloc:
            raise ValueError("must hold no user and no password; CLEARML_API_ACCESS_KEY and _SECRET_KEY do")
        try:
            has_host = bool(parts.hostname) and parts.port != 0
        except ValueError:
            has_host = False
        if not has_host:
            raise ValueError("must name a host, and a port that is a number from 1 to 65535 or none")
        return value
