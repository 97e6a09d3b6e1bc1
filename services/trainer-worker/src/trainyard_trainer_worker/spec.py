"""What a training child is asked to do, and what it answers: frozen values with a JSON form.

The parent writes an `AttemptSpec` to a file, the child writes an `Outcome` to `outcome.json` in its work directory, by
a rename, so that a half-written one is never seen. Nothing here touches a disk or a library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from trainyard_schemas.vocabulary import Reason

OUTCOME_FILE = "outcome.json"
SPEC_FILE = "spec.json"
MODEL_FILE = "model.tar.gz"

Json = dict[str, Any]


class Detail(StrEnum):
    """Codes that narrow a reason. A message always says beside it what there is, and what to do."""

    LABEL_MISSING = "label_missing"
    LABEL_NOT_NUMERIC = "label_not_numeric"
    LABEL_OUT_OF_RANGE = "label_out_of_range"
    FILE_MISSING = "file_missing"
    PATH_NOT_ALLOWED = "path_not_allowed"
    EMPTY_FILE = "empty_file"
    NO_ROWS = "no_rows"
    NO_FEATURES = "no_features"
    TOO_FEW_ROWS = "too_few_rows"
    TOO_FEW_GROUPS = "too_few_groups"
    TOO_LARGE = "too_large"
    TOO_MANY_COLUMNS = "too_many_columns"
    TOO_MANY_CLASSES = "too_many_classes"
    ONE_CLASS = "one_class"
    GROUP_KEY_MISSING = "group_key_missing"
    DUPLICATE_COLUMNS = "duplicate_columns"
    NOT_CSV = "not_csv"
    NOT_UTF8 = "not_utf8"
    DATASET_AMBIGUOUS = "dataset_ambiguous"
    DATASET_MISSING = "dataset_missing"
    DATASET_NOT_FINAL = "dataset_not_final"
    REMOTE_NOT_FETCHED = "remote_not_fetched"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    HOST_UNKNOWN = "host_unknown"
    CONNECTION_FAILED = "connection_failed"
    ACCESS_DENIED = "access_denied"
    CREDENTIALS_MISSING = "credentials_missing"
    BUCKET_MISSING = "bucket_missing"
    SERVER_ERROR = "server_error"
    CONTENT_DIFFERS = "content_differs"
    ARCHIVE_UNSAFE = "archive_unsafe"
    DISK_FULL = "disk_full"
    FIELD_INVALID = "field_invalid"
    METRIC_UNKNOWN = "metric_unknown"
    METRIC_UNDEFINED = "metric_undefined"
    TRAINER_UNKNOWN = "trainer_unknown"
    TRAINER_NOT_INSTALLED = "trainer_not_installed"
    FIT_FAILED = "fit_failed"
    NO_MODEL = "no_model"
    MODEL_DIFFERS = "model_differs"
    CHILD_DIED = "child_died"
    MEMORY = "memory"
    ATTEMPT_DEADLINE = "attempt_deadline"
    UNEXPECTED = "unexpected"


class AttemptError(Exception):
    """Ends an attempt with a reason of the closed vocabulary, a detail code and a sentence for the user."""

    def __init__(self, reason: Reason, detail: Detail, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.detail = detail
        self.message = message


def invalid_dataset(detail: Detail, message: str) -> AttemptError:
    """The data cannot be trained on; trying again with the same data would fail again."""
    return AttemptError(Reason.INVALID_DATASET, detail, message)


def dataset_unreachable(detail: Detail, message: str) -> AttemptError:
    """The data may be good; this worker cannot get at it."""
    return AttemptError(Reason.DATASET_UNREACHABLE, detail, message)


def invalid_request(detail: Detail, message: str) -> AttemptError:
    """The request asks for what cannot be done."""
    return AttemptError(Reason.INVALID_REQUEST, detail, message)


@dataclass(frozen=True, slots=True)
class FetchedData:
    """A remote dataset's file, fetched by the parent: `path` on this disk, and what its bytes must be.

    `location` says where it came from, without anything secret. `dataset_id` is the ClearML dataset's, if it is one.
    """

    path: str
    location: str
    sha256: str
    size_bytes: int
    dataset_id: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptSpec:
    """One attempt, as the parent hands it to the child.

    `request` is a RunRequest v2 as JSON. `work_dir` is this attempt's alone. `data_roots` are the folders that local
    data may lie in. `deadline_s` bounds the whole attempt, `request.time_budget_s` the fit. `n_jobs` is the number of
    threads. `memory_limit_bytes` bounds the child's private memory (None: not bounded). `data` is the fetched file of
    a remote dataset; None for a local one, which the child finds under `data_roots` by itself.
    """

    run_id: str
    attempt: int
    claim: str
    request: Mapping[str, Any]
    work_dir: str
    data_roots: tuple[str, ...]
    deadline_s: float
    n_jobs: int = 1
    memory_limit_bytes: int | None = None
    data: FetchedData | None = None

    def to_json(self) -> Json:
        """A form that `json.dumps` takes and `from_json` reads back to an equal value."""
        return {**asdict(self), "request": dict(self.request), "data_roots": list(self.data_roots)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AttemptSpec:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError where a field is missing or wrong."""
        limit, fetched = data.get("memory_limit_bytes"), data.get("data")
        return cls(
            run_id=str(data["run_id"]),
            attempt=int(data["attempt"]),
            claim=str(data["claim"]),
            request=dict(data["request"]),
            work_dir=str(data["work_dir"]),
            data_roots=tuple(str(root) for root in data["data_roots"]),
            deadline_s=float(data["deadline_s"]),
            n_jobs=max(1, int(data.get("n_jobs", 1))),
            memory_limit_bytes=None if limit is None else int(limit),
            data=None if fetched is None else FetchedData(**fetched),
        )


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file in the work directory that belongs to the attempt's results. `path` is relative to it.

    `sha256` and `size_bytes` are of the finished file; empty and 0 while it may still change.
    """

    name: str
    path: str
    content_type: str = "application/octet-stream"
    sha256: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The packed model: `path` relative to the work directory, and what its bytes are."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The model is trained, evaluated, packed, and was loaded once in a clean process."""

    results: Mapping[str, Any]
    model: ModelFile
    artifacts: tuple[Artifact, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt ended without a model, for `reason`; `detail` is a code, `message` a sentence for the user."""

    reason: Reason
    detail: str
    message: str
    results: Mapping[str, Any] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()


@dataclass(frozen=True, slots=True)
class Stopped:
    """The parent ended the child on purpose. `message` says who asked for it, and why."""

    reason: Reason
    message: str = ""


Outcome = Succeeded | Failed | Stopped


def outcome_to_json(outcome: Outcome) -> Json:
    """A form that `json.dumps` takes and `outcome_from_json` reads back."""
    if isinstance(outcome, Succeeded):
        return {
            "state": "succeeded",
            "results": dict(outcome.results),
            "model": asdict(outcome.model),
            "artifacts": [asdict(a) for a in outcome.artifacts],
        }
    if isinstance(outcome, Failed):
        return {
            "state": "failed",
            "reason": str(outcome.reason),
            "detail": outcome.detail,
            "message": outcome.message,
            "results": dict(outcome.results),
            "artifacts": [asdict(a) for a in outcome.artifacts],
        }
    return {"state": "stopped", "reason": str(outcome.reason), "message": outcome.message}


def outcome_from_json(data: Mapping[str, Any]) -> Outcome:
    """The inverse of `outcome_to_json`. Raises KeyError, TypeError or ValueError for anything else."""
    state = data["state"]
    if state == "stopped":
        return Stopped(Reason(data["reason"]), str(data.get("message", "")))
    artifacts = tuple(Artifact(**a) for a in data["artifacts"])
    if state == "succeeded":
        return Succeeded(dict(data["results"]), ModelFile(**data["model"]), artifacts)
    if state == "failed":
        results = dict(data["results"])
        return Failed(Reason(data["reason"]), str(data["detail"]), str(data["message"]), results, artifacts)
    raise ValueError(f"state {state!r} is none of succeeded, failed, stopped")


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """The part of a RunRequest v2 that training needs, with the defaults applied.

    `metric` and `task_type` may be None: the registry's default and the label's kind then decide. `extras` is the
    trainer's own namespace only.
    """

    trainer: str
    dataset: Mapping[str, Any]
    label: str
    group_key: tuple[str, ...]
    time_budget_s: float
    metric: str | None
    task_type: str | None
    split_method: str
    test_size: float
    seed: int
    extras: Mapping[str, Any]


DEFAULT_TIME_BUDGET_S = 300.0
DEFAULT_TEST_SIZE = 0.2
DEFAULT_SEED = 42
MAX_SEED = (1 << 32) - 1  # what numpy and scikit-learn take
SPLIT_METHODS = ("row_shuffle", "group_shuffle")


def parse_request(body: Mapping[str, Any]) -> TrainingRequest:
    """Read a RunRequest v2, which intake has validated; what only training can judge is judged here.

    Raises AttemptError(invalid_request) that names the field.
    """
    dataset = _mapping(body.get("dataset"), "dataset")
    split = _mapping(body.get("split") or {}, "split")
    label = dataset.get("label")
    if dataset.get("type", "tabular") != "tabular":
        kind = clean(dataset.get("type"))
        raise invalid_request(Detail.FIELD_INVALID, f"dataset.type is {kind}; this worker trains on tabular data only")
    if not isinstance(label, str) or not label:
        raise invalid_request(Detail.FIELD_INVALID, "dataset.label is missing: name the column to predict")
    method = str(split.get("method") or "row_shuffle")
    if method not in SPLIT_METHODS:
        known = ", ".join(SPLIT_METHODS)
        raise invalid_request(Detail.FIELD_INVALID, f"split.method is {clean(method)}; use one of {known}")
    group_key = tuple(str(key) for key in body.get("group_key") or ())
    if method == "group_shuffle" and not group_key:
        raise invalid_request(Detail.FIELD_INVALID, "group_key is empty: group_shuffle needs at least one column")
    trainer = str(body.get("trainer"))
    extras = _mapping(body.get("extras") or {}, "extras").get(trainer) or {}
    test_size = _number(split.get("test_size"), DEFAULT_TEST_SIZE, "split.test_size")
    if not 0.0 < test_size < 1.0:
        raise invalid_request(Detail.FIELD_INVALID, f"split.test_size is {test_size}; it must lie between 0 and 1")
    return TrainingRequest(
        trainer=trainer,
        dataset=dataset,
        label=label,
        group_key=group_key,
        time_budget_s=_number(body.get("time_budget_s"), DEFAULT_TIME_BUDGET_S, "time_budget_s"),
        metric=body.get("metric"),
        task_type=body.get("task_type"),
        split_method=method,
        test_size=test_size,
        seed=_seed(split.get("random_seed")),
        extras=_mapping(extras, f"extras.{trainer}"),
    )


def _mapping(value: object, path: str) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise invalid_request(Detail.FIELD_INVALID, f"{path} must be an object")


def _number(value: object, default: float, path: str) -> float:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise invalid_request(Detail.FIELD_INVALID, f"{path} must be a number of at least 0")
    return value


def _seed(value: object) -> int:
    seed = _number(value, DEFAULT_SEED, "split.random_seed")
    if seed > MAX_SEED or seed != int(seed):
        raise invalid_request(
            Detail.FIELD_INVALID, f"split.random_seed is {seed}; it must be an integer of at most {MAX_SEED}"
        )
    return int(seed)


def clean(value: object, limit: int = 80) -> str:
    """Text from data or a request, fit for a message or a terminal: quoted, escaped to one line, at most `limit`."""
    text = str(value)
    return repr(text if len(text) <= limit else text[:limit] + "...").encode("ascii", "backslashreplace").decode()


def listed(names: Sequence[object], limit: int = 20) -> str:
    """Names for a message: at most `limit` of them, cleaned, and how many more there are."""
    shown = ", ".join(clean(name, 40) for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
