"""The refusals of the API: HTTP code, ClearML's subcode, a sentence."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """Answered as an error envelope; the call's transaction is rolled back."""

    def __init__(self, code: int, subcode: int, msg: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(msg)
        self.code = code
        self.subcode = subcode
        self.msg = msg
        self.data = data or {}


def no_such_task(task_id: str) -> ApiError:
    """400/101."""
    return ApiError(400, 101, f"Invalid task id: id={task_id}")


def no_such_queue(queue_id: str) -> ApiError:
    """400/701."""
    return ApiError(400, 701, f"Invalid queue id: id={queue_id}")


def wrong_status(action: str, status: str) -> ApiError:
    """400/110."""
    return ApiError(400, 110, f"Invalid task status: {action} is not possible from {status}")


def bad_field(name: str, why: str) -> ApiError:
    """400/12."""
    return ApiError(400, 12, f"Validation error ({name}): {why}")


def invalid(why: str) -> ApiError:
    """400/800."""
    return ApiError(400, 800, f"Data validation error: {why}")
