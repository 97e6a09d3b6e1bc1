"""Every kind of bad field: refused by name; and what a request may say."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from trainyard_schemas.errors import ContractError, UnsupportedVersion
from trainyard_schemas.runs import RunRequest, Split
from trainyard_schemas.trainers import TRAINERS
from trainyard_schemas.upcasting import SERVER_OWNED, parse_request

GOOD: dict[str, Any] = {
    "schema_version": 2,
    "trainer": "flaml",
    "dataset": {"type": "tabular", "uri": "s3://datasets/demo.csv", "label": "label"},
    "task_type": "classification",
}
CANARY = "hunter2-canary"


def _with(path: str, value: Any) -> dict[str, Any]:
    """The good request with the field at a dotted path set, or removed where the value is `...`."""
    body: dict[str, Any] = json.loads(json.dumps(GOOD))
    *parents, last = path.split(".")
    part = body
    for name in parents:
        part = part.setdefault(name, {})
    if value is ...:
        del part[last]
    else:
        part[last] = value
    return body


def _refusal(body: dict[str, Any]) -> ContractError:
    thread_seconds = []
    for _ in range(2):  # a garbage collection of the whole test session may fall into one of them
        before = time.thread_time()
        with pytest.raises(ContractError) as refused:
            parse_request(body)
        thread_seconds.append(time.thread_time() - before)
    assert min(thread_seconds) < 0.05
    assert all(error.message.isprintable() for error in refused.value.errors)
    return refused.value


def test_the_good_request_is_accepted() -> None:
    assert parse_request(GOOD).request.trainer == "flaml"


@pytest.mark.parametrize("name", ["trainer", "dataset", "task_type", "dataset.type"])
def test_a_missing_required_field_is_named(name: str) -> None:
    error = _refusal(_with(name, ...))
    assert [(e.path, e.message) for e in error.errors] == [(name, "is missing; it is required")]


@pytest.mark.parametrize("name", sorted(SERVER_OWNED))
def test_what_the_server_owns_is_refused_by_name(name: str) -> None:
    errors = _refusal(_with(name, "x")).errors
    assert [(e.path, e.message) for e in errors] == [(name, "is set by Trainyard, not by a request; remove it")]


def test_every_wrong_field_is_named_and_no_more_than_20() -> None:
    body = GOOD | {"trainer": 7, "priority": "high", "tags": "x"}
    assert {e.path for e in _refusal(body).errors} == {"trainer", "priority", "tags"}
    error = _refusal(GOOD | {f"field_{i}": 1 for i in range(500)})
    assert len(error.errors) == 21
    assert error.errors[-1].message == "and 480 more wrong fields"


def test_the_label_is_no_group() -> None:
    by_label = GOOD | {"group_key": ["site", GOOD["dataset"]["label"]], "split": {"method": "group_shuffle"}}
    (error,) = _refusal(by_label).errors
    assert (error.path, error.message.partition(";")[0]) == ("group_key", "names the label")


WRONG: list[tuple[str, Any, str]] = [
    ("schema_version", 0, "schema_version"),
    ("schema_version", -1, "schema_version"),
    ("schema_version", 3, "schema_version"),
    ("schema_version", 999, "schema_version"),
    ("schema_version", "1", "schema_version"),
    ("schema_version", "2", "schema_version"),
    ("schema_version", 2.5, "schema_version"),
    ("schema_version", True, "schema_version"),
    ("schema_version", None, "schema_version"),
    ("trainer", "flaml2", "trainer"),
    ("trainer", "FLAML", "trainer"),
    ("trainer", None, "trainer"),
    ("trainer", ["flaml"], "trainer"),
    ("task_type", "clustering", "task_type"),
    ("task_type", "detection", "task_type"),
    ("metric", "rmse", "metric"),
    ("metric", "MASE", "metric"),
    ("metric", "Accuracy", "metric"),
    ("metric", 1, "metric"),
    ("dataset", "s3://datasets/demo.csv", "dataset"),
    ("dataset", None, "dataset"),
    ("dataset", [], "dataset"),
    ("dataset.type", "parquet", "dataset.type"),
    ("dataset.label", "", "dataset.label"),
    ("dataset.label", 3, "dataset.label"),
    ("dataset.label", "a\nb", "dataset.label"),
    ("dataset.rows", 10, "dataset.rows"),
    ("dataset.uri", "", "dataset.uri"),
    ("dataset.uri", "x" * 5_000, "dataset.uri"),
    ("dataset.uri", "ftp://host/x.csv", "dataset.uri"),
    ("dataset.uri", "gopher://169.254.169.254/", "dataset.uri"),
    ("dataset.uri", "javascript:alert(1)", "dataset.uri"),
    ("dataset.uri", "data:text/csv;base64,YSxi", "dataset.uri"),
    ("dataset.uri", "simplecache::s3://datasets/x.csv", "dataset.uri"),
    ("dataset.uri", "https://host/x.zip::s3://datasets/x.csv", "dataset.uri"),
    ("dataset.uri", "zip://*.csv::s3://datasets/x.zip", "dataset.uri"),
    ("dataset.uri", "https:///x.csv", "dataset.uri"),
    ("dataset.uri", "s3:///x.csv", "dataset.uri"),
    ("dataset.uri", "https://[::1/x.csv", "dataset.uri"),
    ("dataset.uri", "https://host:99999/x.csv", "dataset.uri"),
    ("dataset.uri", "file://fileserver/share/x.csv", "dataset.uri"),
    ("dataset.uri", "data/\x00x.csv", "dataset.uri"),
    ("dataset.uri", "data/x.csv\n", "dataset.uri"),
    ("dataset.uri", "data/\u202evsc.exe", "dataset.uri"),
    ("dataset.uri", 5, "dataset.uri"),
    ("time_budget_s", 0, "time_budget_s"),
    ("time_budget_s", -1, "time_budget_s"),
    ("time_budget_s", 1e12, "time_budget_s"),
    ("time_budget_s", float("nan"), "time_budget_s"),
    ("time_budget_s", float("inf"), "time_budget_s"),
    ("time_budget_s", "300", "time_budget_s"),
    ("time_budget_s", True, "time_budget_s"),
    ("deadline_s", 0, "deadline_s"),
    ("queue_ttl_s", -5, "queue_ttl_s"),
    ("split", "row_shuffle", "split"),
    ("split.method", "stratified", "split.method"),
    ("split.test_size", 0, "split.test_size"),
    ("split.test_size", 1, "split.test_size"),
    ("split.test_size", "0.2", "split.test_size"),
    ("split.random_seed", -1, "split.random_seed"),
    ("split.random_seed", 2**32, "split.random_seed"),
    ("split.random_seed", 4.2, "split.random_seed"),
    ("split.seed", 1, "split.seed"),
    ("group_key", "user_id", "group_key"),
    ("group_key", [""], "group_key.0"),
    ("group_key", [1], "group_key.0"),
    ("group_key", ["a", "a"], "group_key"),
    ("group_key", [f"c{i}" for i in range(33)], "group_key"),
    ("run_name", "", "run_name"),
    ("run_name", "ab", "run_name"),
    ("run_name", "a\nb c", "run_name"),
    ("run_name", "\x1b[31mred\x1b[0m", "run_name"),
    ("run_name", "\u202egnp.exe", "run_name"),
    ("run_name", "half \ud83d pair", "run_name"),
    ("run_name", "<script>alert(1)</script>", "run_name"),
    ("run_name", "x" * 10_240, "run_name"),
    ("run_name", "  padded  ", "run_name"),
    ("run_name", "tab\tbed", "run_name"),
    ("run_name", "line\u2028separator", "run_name"),
    ("project", "x", "project"),
    ("project", "<b>AutoML</b>", "project"),
    ("project", 12, "project"),
    ("tags", "baseline", "tags"),
    ("tags", [""], "tags.0"),
    ("tags", ["ok", "\x07bell"], "tags.1"),
    ("tags", ["x" * 129], "tags.0"),
    ("tags", [f"t{i}" for i in range(65)], "tags"),
    ("tags", {"a": 1}, "tags"),
    ("queue", "", "queue"),
    ("queue", "gpu\r\nX: y", "queue"),
    ("extras", [], "extras"),
    ("extras", {"flaml": "fast"}, "extras.flaml"),
    ("extras", {"xgboost": {}}, "extras.xgboost"),
    ("idempotency_key", "", "idempotency_key"),
    ("idempotency_key", "x" * 257, "idempotency_key"),
    ("idempotency_key", "a\nb", "idempotency_key"),
    ("priority", -1, "priority"),
    ("priority", 10, "priority"),
    ("priority", "5", "priority"),
    ("priority", 5.5, "priority"),
    ("retry.max_attempts", 0, "retry.max_attempts"),
    ("retry.max_attempts", 11, "retry.max_attempts"),
    ("retry.on", ["bad luck"], "retry.on.0"),
    ("retry.backoff_s", -1, "retry.backoff_s"),
    ("retry.forever", True, "retry.forever"),
    ("Trainer", "flaml", "Trainer"),
]


@pytest.mark.parametrize(("path", "value", "named"), WRONG, ids=[f"{p}={str(v)[:24]!r}" for p, v, _ in WRONG])
def test_a_wrong_value_is_refused_by_the_name_of_its_field(path: str, value: Any, named: str) -> None:
    assert [e.path.rpartition(".0")[0] or e.path for e in _refusal(_with(path, value)).errors] == [
        named.rpartition(".0")[0] or named
    ]


@pytest.mark.parametrize("version", [0, -1, 3, 999, 2**63 - 1])
def test_a_version_that_is_not_known_has_a_class_of_its_own(version: int) -> None:
    assert isinstance(_refusal(GOOD | {"schema_version": version}), UnsupportedVersion)


SECRET_NAMES = [
    "client_secret",
    "refresh_token",
    "id_token",
    "passwd",
    "pwd",
    "private_token",
    "auth",
    "auth_token",
    "access-token",
    "x-api-key",
    "sas",
    "code",
    "jwt",
    "session",
    "session_token",
    "bearer",
    "authorization",
    "secret_key",
    "aws_secret_access_key",
    "AWSSecretKey",
    "AccessKeyId",
    "AWSAccessKeyId",
    "subscription-key",
    "Ocp-Apim-Subscription-Key",
    "key",
    "to%6ben",
    "to%256ben",
]
SECRET_URIS = [
    f"s3://user:{CANARY}@datasets/x.csv",
    f"s3://{CANARY}@datasets/x.csv",
    f"https://user:{CANARY}@host/x.csv",
    f"//user:{CANARY}@host/x.csv",
    f"https://host/x.csv?X-Amz-Credential=a&X-Amz-Signature={CANARY}",
    f"https://host/x.csv?x-amz-security-token={CANARY}",
    f"https://host/x.csv?X-Goog-Signature={CANARY}",
    f"https://host/x.csv?sv=2024&sig={CANARY}",
    f"https://host/x.csv?access_token={CANARY}",
    f"https://host/x.csv?API_KEY={CANARY}",
    f"https://host/x.csv?password={CANARY}",
    *(f"https://host/x.csv?a=1&{name}={CANARY}" for name in SECRET_NAMES),
    f"https://host/x.csv#access_token={CANARY}",
    f"https://host/x.csv?a=1;token={CANARY}",
    f"https://host/x.csv%3Ftoken={CANARY}",
    f"s3://datasets/x.csv?a=1%26token%3D{CANARY}",
    f"data/x.csv?token={CANARY}",
    f"https://bob%3A{CANARY}%40host/x.csv",
    f"s3://AKIA:abc/{CANARY}+gh@datasets/x.csv",
    f"https://us\ner:{CANARY}@host/x.csv",
    f"https://{CANARY}@[::1/x.csv",
    f"ftp://user:{CANARY}@host/x.csv",
]


@pytest.mark.parametrize("uri", SECRET_URIS, ids=range(len(SECRET_URIS)))
def test_a_uri_with_a_secret_is_refused_and_the_secret_is_not_repeated(uri: str) -> None:
    error = _refusal(_with("dataset.uri", uri))
    assert [e.path for e in error.errors] == ["dataset.uri"]
    assert CANARY not in f"{error} {error!r} {error.errors!r} {error.args!r}"
    assert error.__cause__ is None
    assert error.__suppress_context__


@pytest.mark.parametrize(
    "uri",
    [
        "examples/wine.csv",
        "../outside/roots/is/the/workers/matter.csv",
        "/data/demo.csv",
        "file:///data/demo.csv",
        "file:data/demo.csv",
        "s3://datasets/with space/ü.csv",
        "https://host:8443/x.csv?version=3&versionId=abc",
        "http://host/x.csv#part",
        "https://host/x.csv?x-id=GetObject&response-content-type=text/csv&partNumber=1;versionId=2",
        "s3://datasets/session=5/code=3/key=1/50%25.csv",
    ],
)
def test_a_uri_without_a_secret_is_accepted_without_looking_at_what_it_names(uri: str) -> None:
    assert parse_request(_with("dataset.uri", uri)).request.dataset.uri == uri


@pytest.mark.parametrize("name", ["Übung 3", "模型", "نموذج", "wine-run (2)", "日本語のテスト", "a/b:c"])
def test_names_in_every_script_are_accepted_as_they_are(name: str) -> None:
    assert parse_request(_with("run_name", name + " x")).request.run_name == name + " x"


LEGAL = [(t.name, task, metric) for t in TRAINERS.values() for task, metrics in t.metrics.items() for metric in metrics]


@pytest.mark.parametrize(("trainer", "task", "metric"), LEGAL)
def test_every_legal_trainer_task_and_metric_is_accepted(trainer: str, task: str, metric: str) -> None:
    dataset = {"type": "yolo", "uri": "s3://d/y.zip"} if task == "detection" else GOOD["dataset"]
    body = GOOD | {"trainer": trainer, "task_type": task, "metric": metric, "dataset": dataset}
    assert parse_request(body).request.metric == metric


def test_every_illegal_trainer_task_and_metric_is_refused() -> None:
    metrics = sorted({metric for _, _, metric in LEGAL})
    tasks = sorted({task for _, task, _ in LEGAL})
    illegal = [(t, k, m) for t in TRAINERS for k in tasks for m in metrics if (t, k, m) not in LEGAL]
    assert len(illegal) > 100
    for trainer, task, metric in illegal:
        dataset = {"type": "yolo", "uri": "s3://d/y.zip"} if trainer == "ultralytics" else GOOD["dataset"]
        error = _refusal(GOOD | {"trainer": trainer, "task_type": task, "metric": metric, "dataset": dataset})
        assert error.errors[0].path in ("task_type", "metric")


def _digest(**changes: Any) -> str:
    return parse_request(GOOD | changes).request.digest


def test_a_default_that_is_said_is_the_same_request_as_one_that_is_not() -> None:
    said = {name: value for name, value in RunRequest.model_validate(GOOD).to_json().items() if value is not None}
    assert parse_request(said).request.digest == _digest()
    assert _digest(idempotency_key="k") == _digest()
    assert _digest(metric="accuracy") == _digest()


def test_what_a_serialiser_writes_for_numbers_and_for_what_is_not_set_is_the_same_request() -> None:
    assert (
        _digest(schema_version=2.0, priority=5.0, split={"random_seed": 42.0}, retry={"max_attempts": 3.0}) == _digest()
    )
    optional = {name for name, field in RunRequest.model_fields.items() if not field.is_required()}
    assert _digest(**dict.fromkeys(optional)) == _digest()
    assert _digest(split=dict.fromkeys(Split.model_fields), dataset=GOOD["dataset"] | {"clearml": None}) == _digest()


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("tags", "x", "is not a list; send one, with its items in brackets"),
        ("group_key", {}, "is not a list; send one, with its items in brackets"),
        ("split", [], "is not a JSON object; send one, in braces"),
        ("dataset", "x.csv", "is not a JSON object; send one, in braces"),
        ("extras", "x", "is not a JSON object; send one, in braces"),
        ("extras.sklearn", [], "is not a JSON object; send one, in braces"),
        ("retry_of", "D0B9", "is not an id as Trainyard writes them: a UUID in lower case"),
    ],
)
def test_a_wrong_shape_is_told_in_the_words_of_json(path: str, value: object, says: str) -> None:
    assert [(e.path, e.message) for e in _refusal(_with(path, value)).errors] == [(path, says)]


def test_whatever_else_changes_makes_another_request() -> None:
    digests = {
        _digest(),
        _digest(time_budget_s=10.0),
        _digest(run_name="another"),
        _digest(priority=9),
        _digest(split={"random_seed": 7}),
        _digest(tags=["x"]),
        _digest(dataset=GOOD["dataset"] | {"label": "other"}),
        _digest(metric="f1"),
        _digest(deadline_s=60.0),
    }
    assert len(digests) == 9
