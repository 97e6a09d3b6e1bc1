"""The status table of tasks, as measured on clearml-server 2.3.0: pure."""

from __future__ import annotations

from typing import Final

CREATED, QUEUED, IN_PROGRESS, STOPPED = "created", "queued", "in_progress", "stopped"
COMPLETED, FAILED, PUBLISHED = "completed", "failed", "published"

ALLOWED_FROM: Final = {
    "started": {CREATED, QUEUED, IN_PROGRESS, STOPPED, COMPLETED},
    "stopped": {QUEUED, IN_PROGRESS, STOPPED, FAILED},
    "completed": {IN_PROGRESS, STOPPED, COMPLETED},
    "failed": {IN_PROGRESS, STOPPED, FAILED},
    "enqueue": {CREATED, QUEUED, STOPPED, FAILED},
    "publish": {STOPPED, COMPLETED, FAILED},
    "reset": {CREATED, QUEUED, IN_PROGRESS, STOPPED, COMPLETED, FAILED},
    "delete": {CREATED},
    "edit": {CREATED},
    "edit_hyper_params": {CREATED, QUEUED, IN_PROGRESS},
}

NEW_STATUS: Final = {
    "started": IN_PROGRESS,
    "stopped": STOPPED,
    "completed": COMPLETED,
    "failed": FAILED,
    "enqueue": QUEUED,
    "publish": PUBLISHED,
    "reset": CREATED,
}


def allowed(action: str, status: str, *, force: bool = False) -> bool:
    """Whether a task of this status may be changed so; `force` allows everything."""
    return force or status in ALLOWED_FROM[action]
