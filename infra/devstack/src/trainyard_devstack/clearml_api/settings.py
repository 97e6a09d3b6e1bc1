"""The server's settings: command line first, then environment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ClearMLApiSettings(BaseSettings):
    """Where to listen, where to keep data, whom to let in."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_prefix="TRAINYARD_CLEARML_API_",  # without it HOST or DATA of a login shell would be read
        cli_prog_name="python -m trainyard_devstack.clearml_api",
        cli_kebab_case=True,
    )

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    api_port: int = Field(default=8008, ge=0, le=65535, description="Port of the API; 0 takes a free one.")
    files_port: int = Field(default=8081, ge=0, le=65535, description="Port of the file server; 0 takes a free one.")
    data: Path = Field(description="Folder for the database and the files; created if missing.")
    access_key: str = Field(
        min_length=3,
        validation_alias=AliasChoices("access_key", "CLEARML_API_ACCESS_KEY"),
        description="Access key that clients must present.",
    )
    secret_key: SecretStr = Field(
        min_length=3,
        validation_alias=AliasChoices("secret_key", "CLEARML_API_SECRET_KEY"),
        description="Secret key that clients must present; better given by environment.",
    )
    token_lifetime_s: int = Field(default=3600, ge=1, description="How long a token is good.")
    delay: Literal["none", "real"] = Field(default="none", description="`real`: as slow as a real server.")
