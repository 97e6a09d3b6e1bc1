"""The ClearML task of an attempt, as the body of one `tasks.create`. Pure.

Metadata follow one standard, so that ClearML's UI can compare and filter runs: tags `automl`, `trainer:<name>`,
`schema:v<n>` (the version that was sent) and the request's own; parameters `Run/*` and `Dataset/*`, all strings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trainyard_schemas.ids import partition_of
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.topics import RUN_PARTITIONS

_RUN_FIELDS = (
    "trainer",
    "metric",
    "task_type",
    "time_budget_s",
    "group_key",
    "priority",
    "deadline_s",
    "queue_ttl_s",
    "dataset_ref",
)


ENTRY_POINT = "-m trainyard_trainer_worker.agent_body"
"""What a clearml-agent runs. With no repository and no diff it clones nothing, and with no requirements it installs
nothing: the packages are in the image, or beside the agent."""


def run_name(request: Mapping[str, Any], run_id: str) -> str:
    """The request's `run_name`, else the trainer with the first characters of the run's id."""
    return request.get("run_name") or f"{request['trainer']}-{run_id[:8]}"


def project_name(request: Mapping[str, Any]) -> str:
    """The ClearML project of a run."""
    return str(request.get("project") or "AutoML")


def task_body(
    state: RunState, attempt: int, image: str, topic_prefix: str, container_arguments: str = ""
) -> dict[str, Any]:
    """Everything about the task but its project, which ClearML wants by id.

    `Run/run_id` and `Run/attempt` are the marker by which the task is found again. `Run/accepted_partition` and
    `Run/accepted_offset` tell a worker where in `runs.lifecycle` the run begins. `script` and `container` are for an
    ordinary clearml-agent; `container_arguments` are those of `docker run`, for everybody in ClearML to read.
    """
    request = state.request
    version = state.original_version or request.get("schema_version")
    split = request.get("split") or {}
    dataset = request.get("dataset") or {}
    clearml = dataset.get("clearml") or {}
    run = {
        "run_id": state.run_id,
        "tenant": state.tenant,
        "attempt": attempt,
        "accepted_partition": partition_of(state.run_id, RUN_PARTITIONS),
        "accepted_offset": state.accepted_offset,
        "topic_prefix": topic_prefix,
        "schema_version": version,
        **{name: request.get(name) for name in _RUN_FIELDS},
        "split_method": split.get("method"),
        "test_size": split.get("test_size"),
        "random_seed": split.get("random_seed"),
    }
    data = {
        **{name: dataset.get(name) for name in ("type", "uri", "label", "path", "yaml_path")},
        **{f"clearml_{name}": clearml.get(name) for name in ("id", "name", "project", "version")},
    }
    own_tags = [t for t in request.get("tags") or () if isinstance(t, str)]
    return {
        "name": run_name(request, state.run_id),
        "type": "training",
        "comment": f"Trainyard run {state.run_id}, attempt {attempt}",
        "tags": list(dict.fromkeys(["automl", f"trainer:{request['trainer']}", f"schema:v{version}", *own_tags])),
        "script": {"binary": "python", "entry_point": ENTRY_POINT, "working_dir": ".", "requirements": {"pip": ""}},
        "container": {"image": image, "arguments": container_arguments},
        "hyperparams": {"Run": _section("Run", run), "Dataset": _section("Dataset", data)},
    }


def _section(section: str, values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    return {
        name: {"section": section, "name": name, "value": _text(value)}
        for name, value in values.items()
        if value is not None
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
