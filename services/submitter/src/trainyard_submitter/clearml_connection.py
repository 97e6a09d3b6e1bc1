"""Which ClearML to talk to: what the environment says, else the local stack's, with its keys.

Of the local stack's files only `clearml_api` and `clearml_files` in `$TRAINYARD_HOME/stack.json`, and `access_key` and
`secret_key` in `$TRAINYARD_HOME/credentials.json` are read here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from trainyard_runtime import settings as runtime_settings
from trainyard_runtime.clearml import ClearMLSettings
from trainyard_submitter.connection import DEFAULT_HOME, HOME, STACK_FILE
from trainyard_submitter.errors import ConfigurationError

CREDENTIALS_FILE: Final = "credentials.json"
API_HOST: Final = "CLEARML_API_HOST"


def clearml_settings(environment: Mapping[str, str]) -> ClearMLSettings:
    """The settings. Raises ConfigurationError, naming what to set."""
    try:
        settings = runtime_settings.read_settings(ClearMLSettings)
        if environment.get(API_HOST):
            return settings
        home = Path(environment.get(HOME) or DEFAULT_HOME)
        stack, keys = _document(home / STACK_FILE), _document(home / CREDENTIALS_FILE)
        if not stack.get("clearml_api"):
            raise ConfigurationError(
                f"no ClearML is known: start the local stack with `trainyard up --detach`, or set {API_HOST},"
                " CLEARML_FILES_HOST, CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY"
            )
        return settings.model_copy(
            update={
                "api_host": str(stack["clearml_api"]),
                "files_host": str(stack["clearml_files"]),
                "access_key": str(keys["access_key"]),
                "secret_key": SecretStr(str(keys["secret_key"])),
            }
        )
    except runtime_settings.ConfigurationError as error:
        raise ConfigurationError(str(error)) from error
    except KeyError as error:
        raise ConfigurationError(
            "the local stack's files lack an entry; run `trainyard down` and `trainyard up --detach`"
        ) from error


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read; run `trainyard down` and `trainyard up`") from error
    return document if isinstance(document, dict) else {}
