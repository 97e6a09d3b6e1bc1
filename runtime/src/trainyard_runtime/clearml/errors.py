"""What can go wrong between us and a ClearML server, told apart by what the caller may conclude.

    ClearMLError
    ├── ClearMLRefused          the server read the call and said no: it was not executed
    ├── ClearMLUnavailable      the call was certainly not executed (or it was a read): try again later
    └── ClearMLUnknownOutcome   the call was sent and no answer came that tells: it may have been executed

An effect (create, enqueue, pop, upload, ...) raises `ClearMLUnknownOutcome` where a read raises `ClearMLUnavailable`:
a read has no outcome to be unsure of. Nobody may repeat an effect after `ClearMLUnknownOutcome` without reading first.
"""

from __future__ import annotations

from enum import IntEnum


class Subcode(IntEnum):
    """The `result_subcode` values of a 400 answer that our code decides on (measured on clearml-server 2.3.0)."""

    MISSING_FIELD = 12
    UNKNOWN_FIELD = 14
    BAD_PROJECT_OR_PARENT = 16
    EMPTY_BATCH = 17
    NO_SUCH_TASK = 101
    WRONG_STATUS = 110
    LOST_STATUS_RACE = 121
    CANNOT_DELETE = 123
    NO_EVENT_ADDED = 131
    NO_SUCH_QUEUE = 701
    QUEUE_NOT_EMPTY = 702
    TASK_NOT_IN_QUEUE = 703
    ALREADY_IN_QUEUE = 706
    VALIDATION = 800
    DUPLICATE_NAME = 801


class ClearMLError(Exception):
    """Any failure of a call to ClearML. `action` is the call, such as `tasks.create`."""

    def __init__(self, action: str, message: str) -> None:
        super().__init__(f"ClearML {action}: {message}")
        self.action = action


class ClearMLRefused(ClearMLError):
    """The server answered with an error envelope: the call was understood and was not executed.

    `code` is the HTTP status (400, 401, 403, 404, 501), `subcode` ClearML's own (see `Subcode`), `msg` its sentence.
    """

    def __init__(self, action: str, code: int, subcode: int, msg: str) -> None:
        super().__init__(action, f"refused with {code}/{subcode}: {msg}")
        self.code = code
        self.subcode = subcode
        self.msg = msg


class ClearMLUnavailable(ClearMLError):
    """The server could not be reached, or a read got no usable answer: nothing was changed."""


class ClearMLUnknownOutcome(ClearMLError):
    """The call was sent and may have been executed: its answer was lost, late, a 5xx, or not ClearML's."""
