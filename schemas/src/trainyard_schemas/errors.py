"""What can be wrong with a message, as one small tree.

    ContractError
      +- Malformed            the bytes are not one JSON document within the limits
      +- Invalid              a document, but its fields are wrong
      +- UnsupportedVersion   a version that this reader does not know

Messages name the field, what was wrong and what to do. They never repeat a value that could be a secret.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainyard_schemas.vocabulary import Reason


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: `path` in dotted form (`dataset.uri`; empty for the whole document) and a sentence."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ContractError(ValueError):
    """A message that breaks its contract.

    `reason` and `detail` come from the closed vocabularies; `errors` holds at least one `FieldError`.
    """

    reason: Reason = Reason.INVALID_REQUEST

    def __init__(self, detail: str, *errors: FieldError) -> None:
        self.detail = detail
        self.errors = errors
        super().__init__("; ".join(str(e) for e in errors))


class Malformed(ContractError):
    """The bytes are not one JSON document within the limits of `codec`."""


class Invalid(ContractError):
    """The document's fields are wrong; `errors` names each of them."""


class UnsupportedVersion(ContractError):
    """`schema_version` is one that this reader does not know."""

    reason = Reason.UNSUPPORTED_VERSION
