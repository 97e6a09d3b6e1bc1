"""Where the contract files are, and how the tests read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainyard_schemas.vocabulary import EventType

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "schemas"
EXAMPLES = SCHEMAS / "examples"
REQUESTS = EXAMPLES / EventType.RUN_REQUESTED.short


def load(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_bytes())
    assert isinstance(document, dict), path
    return document


def label(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


GOLDEN_EVENTS = sorted(
    path
    for event_type in EventType
    if event_type not in (EventType.RUN_REQUESTED, EventType.RUN_COMMAND)
    for path in (EXAMPLES / event_type.short).glob("*.json")
)
GOLDEN_COMMANDS = sorted((EXAMPLES / EventType.RUN_COMMAND.short).glob("*.json"))
GOLDEN_REQUEST_EVENTS = sorted(REQUESTS.glob("*.json"))
V1 = sorted((REQUESTS / "v1").glob("*.json"))
V2 = sorted((REQUESTS / "v2").glob("*.json"))
REFUSED = sorted((REQUESTS / "invalid").glob("*.json"))
