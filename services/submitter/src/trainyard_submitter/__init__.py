"""Submit runs to Trainyard and follow them, from any Python program.

from trainyard_submitter import Client

with Client("broker:9092") as client:
    submission = client.submit({"schema_version": 2, "trainer": "flaml", ...}, idempotency_key="nightly-2026-01-31")
    print(client.wait(submission, timeout_s=600).results)
"""

from trainyard_submitter.client import Client
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
