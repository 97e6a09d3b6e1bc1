"""What can go wrong between an intent and an acknowledged request, as one small tree.

SubmitterError
  +- InvalidRequest     the request breaks its contract; names every wrong field; nothing was sent
  +- FileUnusable       a local file that cannot be uploaded
  +- RunUnknown         no such run in what the log still holds
  +- NotAllowed         the broker refuses this client or this record
  +- Unavailable        no broker answered in time
  |    +- OutcomeUnknown    sent, but never acknowledged: it may stand in the log; the same key makes a repeat safe
  +- RunEnded           an order about a run that has ended
  +- ModelUnusable      a model that is not there, was changed, or does not fit the data
  +- Conflict           the idempotency key already names a run with another request
  +- WaitTimeout        the run goes on, but the time to wait for it is over
"""

from __future__ import annotations

from trainyard_schemas.errors import FieldError


class SubmitterError(Exception):
    """Anything that this package raises on purpose. Its text is for a person; `exit_code` is the command's status."""

    exit_code = 1


class ConfigurationError(SubmitterError):
    """The connection is not, or wrongly, configured; the text names what to set."""

    exit_code = 78


class InvalidRequest(SubmitterError):
    """The request breaks its contract; `errors` names each wrong field, `detail` is a code."""

    exit_code = 3

    def __init__(self, detail: str, errors: tuple[FieldError, ...]) -> None:
        super().__init__("; ".join(str(error) for error in errors))
        self.detail = detail
        self.errors = errors


class FileUnusable(SubmitterError):
    """A local file cannot be uploaded; the text says why."""

    exit_code = 3


class RunUnknown(SubmitterError):
    """No run of this id in what the log still holds."""

    exit_code = 3


class NotAllowed(SubmitterError):
    """The broker refuses this client or this record; asking again changes nothing."""

    exit_code = 4


class Unavailable(SubmitterError):
    """No broker answered in time; nothing was sent."""

    exit_code = 5


class OutcomeUnknown(Unavailable):
    """The request was sent and never acknowledged. `run_id` is what it will be if it arrived."""

    def __init__(self, message: str, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class Conflict(SubmitterError):
    """The idempotency key already names the run `run_id`, with another request."""

    exit_code = 6

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"idempotency_key: already names run {run_id}, with another request;"
            " use a new key, or send the same request again"
        )
        self.run_id = run_id


class WaitTimeout(SubmitterError):
    """The time to wait is over; the run goes on. `run_id` names it."""

    def __init__(self, run_id: str, timeout_s: float) -> None:
        super().__init__(f"run {run_id} had not ended after {timeout_s:g} s; it goes on")
        self.run_id = run_id


class RunEnded(SubmitterError):
    """The run `run_id` has ended as `phase`; nothing can be asked of it any more."""

    exit_code = 6

    def __init__(self, run_id: str, phase: str, instead: str = "") -> None:
        super().__init__(f"run {run_id} has ended as {phase}{f'; {instead}' if instead else ''}")
        self.run_id = run_id
        self.phase = phase


class ModelUnusable(SubmitterError):
    """There is no such model, its bytes are not the registered ones, or it cannot be used on this data."""

    exit_code = 3
