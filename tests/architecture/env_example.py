"""`.env.example` from the settings classes: `python -m tests.architecture.env_example` writes it.

Every variable that a process or docker-compose.yml reads is there with its default and its sentence; required ones have
no `#` before them.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from tests.architecture.sources import ROOT
from tests.deployment import compose, variables
from trainyard_devstack.clearml_api.settings import ClearMLApiSettings
from trainyard_devstack.settings import StackSettings
from trainyard_dispatcher.settings import DispatcherSettings
from trainyard_runtime.clearml.settings import ClearMLSettings
from trainyard_runtime.failpoints import VARIABLE as FAILPOINT
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.settings import ServiceSettings
from trainyard_stats.settings import StatsSettings
from trainyard_submitter.gateway.settings import GatewaySettings
from trainyard_trainer_worker.agent_config import CONFIG_FILE, TASK_ID, WORKER_ID
from trainyard_trainer_worker.data.settings import DataSettings
from trainyard_trainer_worker.settings import TrainerWorkerSettings

SECTIONS: tuple[tuple[str, type[BaseSettings]], ...] = (
    ("Kafka (all services and the command line)", KafkaSettings),
    (
        "ClearML, by its SDK's own names (every service, and the command line where it uploads or fetches)",
        ClearMLSettings,
    ),
    ("Every service", ServiceSettings),
    ("Dispatcher", DispatcherSettings),
    ("Trainer worker", TrainerWorkerSettings),
    ("Remote data (trainer worker), S3 by the names that every S3 client reads", DataSettings),
    ("Statistics", StatsSettings),
    ("The gateway, which serves the run page", GatewaySettings),
    ("The stack on one machine (`trainyard up`)", StackSettings),
)

WITHOUT_ENVIRONMENT: dict[type[BaseSettings], str] = {
    ClearMLApiSettings: "the embedded ClearML API takes command line options from the supervisor",
}
"""Settings classes that no variable sets, each with the reason."""

OTHERS = {
    FAILPOINT: "Tests only: where a process kills or stops itself, or fails, like D3:kill@2.",
    TASK_ID: "Set by a clearml-agent: the task that it runs.",
    WORKER_ID: "Set by a clearml-agent: its own name, which names the worker of the task that it runs.",
    CONFIG_FILE: "Set by a clearml-agent: its configuration, where ClearML's variables are not set.",
}
"""Variables that no settings class reads."""


def render() -> str:
    """The whole file."""
    lines = [
        "# Every variable that Trainyard and docker-compose.yml read, with its default. Compose takes it as .env.",
        "# Generated: python -m tests.architecture.env_example",
    ]
    in_compose = compose_defaults()
    seen: set[str] = set()
    for title, settings in SECTIONS:
        lines += ["", f"# --- {title}"]
        for field_name, field in settings.model_fields.items():
            name = variable(settings, field_name, field)
            if name not in seen:
                seen.add(name)
                lines += ["", *_wrapped(field.description or "")]
                if name in in_compose and in_compose[name] != _text(field.default):
                    lines.append(f"# With Compose: {in_compose[name] or 'not set'}.")
                lines.append(_assignment(name, field))
    lines += ["", "# --- docker-compose.yml only"]
    for name, sentence in variables.SENTENCES.items():
        lines += ["", *_wrapped(sentence), f"#{name}={in_compose.get(name, '')}"]
    lines += ["", "# --- Others"]
    for name, sentence in OTHERS.items():
        lines += ["", *_wrapped(sentence), f"#{name}="]
    return "\n".join(lines) + "\n"


def compose_defaults() -> dict[str, str]:
    """What docker-compose.yml takes where a variable is not set."""
    uses = [
        use
        for text in compose.texts((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
        for use in compose.uses_in(text)
    ]
    return {use.variable: compose.interpolate(use.default or "", {}) for use in uses if not use.nested}


def variable(settings: type[BaseSettings], field_name: str, field: FieldInfo) -> str:
    """The environment variable of a field."""
    if isinstance(field.validation_alias, str):
        return field.validation_alias
    if isinstance(field.validation_alias, AliasChoices):
        return str(field.validation_alias.choices[-1])
    return f"{settings.model_config.get('env_prefix', '')}{field_name}".upper()


def _wrapped(sentence: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(sentence, 110)]


def _assignment(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return f"{name}="
    return f"#{name}={_text(field.default)}"


def _text(default: Any) -> str:
    if default is None or default is PydanticUndefined:
        return ""  # no default, or one that depends on the machine
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple | list):
        return ",".join(str(item) for item in default)
    return str(default)


def path(root: Path = ROOT) -> Path:
    """Where the file is."""
    return root / ".env.example"


if __name__ == "__main__":
    path().write_text(render(), encoding="utf-8")
