"""Submit runs to Trainyard and follow them, from any Python program.

from trainyard_submitter import Client

with Client("broker:9092") as client:
    submission = client.submit({"schema_version": 2, "trainer": "flaml", ...}, idempotency_key="nightly-2026-01-31")
    print(client.wait(submission, timeout_s=600).results)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainyard_submitter.errors import (
    ConfigurationError,
    Conflict,
    InvalidRequest,
    NotAllowed,
    OutcomeUnknown,
    RunEnded,
    RunUnknown,
    SubmitterError,
    Unavailable,
    WaitTimeout,
)
from trainyard_submitter.following import Answer, Followed
from trainyard_submitter.submission import Submission

if TYPE_CHECKING:
    from trainyard_submitter.client import Client

__all__ = [
    "Answer",
    "Client",
    "ConfigurationError",
    "Conflict",
    "Followed",
    "InvalidRequest",
    "NotAllowed",
    "OutcomeUnknown",
    "RunEnded",
    "RunUnknown",
    "Submission",
    "SubmitterError",
    "Unavailable",
    "WaitTimeout",
]


def __getattr__(name: str) -> object:
    """`Client` when it is first asked for: the gateway needs no kafka-python, which takes 9 MB."""
    if name == "Client":
        from trainyard_submitter.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
