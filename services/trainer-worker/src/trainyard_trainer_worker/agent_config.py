"""What a clearml-agent tells the process that it starts for a task. Pure.

The agent writes its whole configuration into a temporary JSON file, which CLEARML_CONFIG_FILE names: so a host whose
agent is set up by `clearml.conf` alone needs no ClearML variable for ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

TASK_ID: Final = "CLEARML_TASK_ID"
WORKER_ID: Final = "CLEARML_WORKER_ID"
CONFIG_FILE: Final = "CLEARML_CONFIG_FILE"

_IN_FILE: Final = {
    "CLEARML_API_HOST": ("api_server",),
    "CLEARML_FILES_HOST": ("files_server",),
    "CLEARML_API_ACCESS_KEY": ("credentials", "access_key"),
    "CLEARML_API_SECRET_KEY": ("credentials", "secret_key"),
}


def missing_variables(config: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The ClearML variables that `environment` lacks and the agent's configuration has.

    Nothing from a file that is not the agent's JSON (a hand-written `clearml.conf` is HOCON).
    """
    try:
        document = json.loads(config)
    except ValueError:
        return {}
    api = document.get("api") if isinstance(document, dict) else None
    found = {name: _at(api, path) for name, path in _IN_FILE.items() if not environment.get(name)}
    return {name: value for name, value in found.items() if value}


def _at(value: Any, path: tuple[str, ...]) -> str:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""
