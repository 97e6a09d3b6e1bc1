"""The request for a run, as anybody may publish it: `RunRequest`, version 2.

Unknown fields are refused from version 2 on; a version 1 body (no `schema_version`) is upcast by `upcasting`.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from trainyard_schemas.codec import canonical
from trainyard_schemas.text import ColumnName, DataUri, Key, Name, RelativePath, RunId, Tag
from trainyard_schemas.vocabulary import Reason

SCHEMA_VERSION = 2
MAX_DURATION_S = 30 * 24 * 3600.0

Seconds = Annotated[float, Field(gt=0, le=MAX_DURATION_S, allow_inf_nan=False)]


def whole(value: object) -> object:
    """2.0 is a whole number to JSON, and what a serialiser writes that holds every number as a double."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(whole)


class Part(BaseModel):
    """A part of a request: strict types, no unknown fields, never changed once read."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_given(cls, given: object) -> object:
        """Serialisers write null for what is not set; a field that must be given must not be null."""
        if not isinstance(given, dict):
            return given
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {name: value for name, value in given.items() if value is not None or name not in optional}


class ClearMLDataset(Part):
    """A ClearML dataset: by `id`, or by `name`, `project` and `version` together."""

    id: Key | None = None
    name: Name | None = None
    project: Name | None = None
    version: Key | None = None

    @model_validator(mode="after")
    def _by_id_or_by_name(self) -> Self:
        named = (self.name, self.project, self.version)
        if self.id is not None:
            if any(part is not None for part in named):
                raise ValueError("give either id, or name with project and version, not both")
        elif any(part is None for part in named):
            raise ValueError("give id, or all of name, project and version")
        return self


class Dataset(Part):
    """The data of a run. Exactly one of `uri`, `clearml` and the request's `dataset_ref` says where it is."""

    type: Literal["tabular", "yolo"]
    uri: DataUri | None = None
    clearml: ClearMLDataset | None = None
    label: ColumnName | None = None
    path: RelativePath | None = None
    yaml_path: RelativePath | None = None

    @model_validator(mode="after")
    def _fields_fit_the_type(self) -> Self:
        if self.type == "tabular":
            if self.label is None:
                raise ValueError("label: is missing; name the column to predict")
            if self.yaml_path is not None:
                raise ValueError("yaml_path: belongs to type yolo; remove it")
        elif self.label is not None:
            raise ValueError("label: belongs to type tabular; remove it")
        if self.uri is not None and self.clearml is not None:
            raise ValueError("uri: give exactly one of uri and clearml")
        return self


class Split(Part):
    """How a part of the rows is held out. `group_shuffle` keeps all rows of a group on one side."""

    method: Literal["row_shuffle", "group_shuffle"] = "row_shuffle"
    test_size: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.2
    random_seed: Annotated[int, Field(ge=0, le=2**32 - 1), WHOLE] = 42


class Retry(Part):
    """When a failed or lost attempt is followed by another one. `backoff_s` doubles from one attempt to the next."""

    max_attempts: Annotated[int, Field(ge=1, le=10), WHOLE] = 3
    on: Annotated[tuple[Annotated[Reason, Field(strict=False)], ...], Field(max_length=len(Reason), strict=False)] = (
        Reason.WORKER_LOST,
        Reason.HOST_SHUTDOWN,
    )
    backoff_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 10.0


class RunRequest(Part):
    """One request to train, version 2.

    Units: `time_budget_s` bounds the fit, `deadline_s` the whole attempt, `queue_ttl_s` the wait in a queue, all in
    seconds. `priority` is 0 (last) to 9 (first). `extras` holds one object per trainer's namespace. `retry_of` names
    the ended run that this one tries again.
    """

    schema_version: Annotated[Literal[2], WHOLE]
    trainer: Tag
    dataset: Dataset
    task_type: Tag
    dataset_ref: Key | None = None
    group_key: Annotated[tuple[ColumnName, ...], Field(max_length=32, strict=False)] = ()
    time_budget_s: Seconds = 300.0
    metric: Tag | None = None
    split: Split = Split()
    run_name: Name | None = None
    project: Name = "AutoML"
    tags: Annotated[tuple[Tag, ...], Field(max_length=64, strict=False)] = ()
    queue: Tag | None = None
    extras: Annotated[dict[str, dict[str, JsonValue]], Field(max_length=16)] = {}
    idempotency_key: Key | None = None
    priority: Annotated[int, Field(ge=0, le=9), WHOLE] = 5
    retry: Retry = Retry()
    queue_ttl_s: Seconds | None = None
    deadline_s: Seconds | None = None
    retry_of: RunId | None = None

    @model_validator(mode="after")
    def _data_is_somewhere(self) -> Self:
        places = sum(place is not None for place in (self.dataset.uri, self.dataset.clearml, self.dataset_ref))
        if places != 1:
            raise ValueError("dataset: give exactly one of dataset.uri, dataset.clearml and dataset_ref")
        if len(set(self.group_key)) != len(self.group_key):
            raise ValueError("group_key: names a column twice; name each once")
        if self.split.method == "group_shuffle" and not self.group_key:
            raise ValueError("group_key: is empty; split.method group_shuffle needs at least one column in it")
        if self.split.method == "group_shuffle" and self.dataset.label in self.group_key:
            raise ValueError("group_key: names the label; name a column that says which rows belong together")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what the request asks for, its idempotency key apart. A default counts as not given."""
        body = self.model_dump(mode="json", exclude_defaults=True, exclude={"idempotency_key"})
        return hashlib.sha256(canonical(body)).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """All fields, defaults included, as JSON values: what `run.accepted` carries."""
        return self.model_dump(mode="json")
