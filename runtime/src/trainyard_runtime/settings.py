"""Settings are built at the door: one class per service, read from the environment, passed down, never global."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

EXIT_CONFIGURATION = 78
"""The exit status of a process whose settings are wrong (`EX_CONFIG` of sysexits)."""


class EnvironmentSettings(BaseSettings):
    """Base of every settings class: frozen, names by alias, unknown variables ignored."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, extra="ignore", env_ignore_empty=True)


class ServiceSettings(EnvironmentSettings):
    """What every long-running service has."""

    http_host: str = Field(
        default="127.0.0.1",
        validation_alias="TRAINYARD_HTTP_HOST",
        description="Address that the health and metrics pages listen on.",
    )
    http_port: int = Field(
        default=0,
        ge=0,
        le=65_535,
        validation_alias="TRAINYARD_HTTP_PORT",
        description="Port of the health and metrics pages; 0 takes a free one.",
    )
    state_dir: Path | None = Field(
        default=None,
        validation_alias="TRAINYARD_STATE_DIR",
        description="Folder of this process's own durable files; none means that nothing is kept between starts.",
    )
    log_level: str = Field(
        default="info",
        pattern="^(debug|info|warning|error)$",
        validation_alias="TRAINYARD_LOG_LEVEL",
        description="Least severe log lines written: debug, info, warning or error.",
    )


class ConfigurationError(Exception):
    """Settings are wrong. `sentences` names each variable, what is wrong with it and what to do; never its value."""

    def __init__(self, *sentences: str) -> None:
        super().__init__(" ".join(sentences))
        self.sentences = sentences


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def read_settings(settings_class: type[SettingsT]) -> SettingsT:
    """The settings from the environment. Raises ConfigurationError."""
    try:
        return settings_class()
    except ValidationError as error:
        raise ConfigurationError(*_sentences(settings_class, error)) from None


def settings_or_exit(settings_class: type[SettingsT]) -> SettingsT:
    """The settings from the environment; ends the process with status 78 and one sentence per wrong variable."""
    try:
        return read_settings(settings_class)
    except ConfigurationError as error:
        exit_for_configuration(error)


def exit_for_configuration(error: ConfigurationError) -> NoReturn:
    """End the process with status 78, after writing every sentence to stderr."""
    say_configuration(error)
    raise SystemExit(EXIT_CONFIGURATION)


def say_configuration(error: ConfigurationError) -> None:
    """Write every sentence to stderr."""
    for sentence in error.sentences:
        sys.stderr.write(f"configuration: {sentence}\n")


@contextmanager
def blamed_on(variable: str, *errors: type[Exception]) -> Iterator[None]:
    """What raises one of `errors` here raises ConfigurationError instead, which names the variable to change."""
    try:
        yield
    except errors as error:
        raise ConfigurationError(f"{variable} cannot be used: {error}.") from error


def _sentences(settings_class: type[BaseSettings], error: ValidationError) -> list[str]:
    sentences = []
    for problem in error.errors(include_url=False, include_input=False):
        first = str(problem["loc"][0]) if problem["loc"] else settings_class.__name__
        name = _variable(settings_class, first)
        if problem["type"] == "missing":
            sentences.append(f"{name} is not set; {_description(settings_class, first)}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            sentences.append(f"{name} is wrong: {message}. {_description(settings_class, first)}")
    return sentences


def _variable(settings_class: type[BaseSettings], name: str) -> str:
    field = settings_class.model_fields.get(name)
    alias = field.validation_alias if field is not None else None
    return alias if isinstance(alias, str) else name


def _description(settings_class: type[BaseSettings], name: str) -> str:
    for field_name, field in settings_class.model_fields.items():
        if name in (field_name, field.validation_alias):
            return f"It is: {field.description}"
    return "See the service's settings."
