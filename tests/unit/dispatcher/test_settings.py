"""The dispatcher's settings: which queue and which image a run gets, under both spellings."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest

from trainyard_dispatcher.settings import MISSPELT, DispatcherSettings, deprecations
from trainyard_runtime.settings import ConfigurationError, read_settings

VARIABLES = (
    "CLEARML_QUEUE_AUTOGLUON",
    "CLEARML_QUEUE_AUTOGLOUON",
    "CLEARML_QUEUE_FLAML",
    "CLEARML_QUEUE_SKLEARN",
    "CLEARML_QUEUE_ULTRALYTICS",
    "CLEARML_CPU_QUEUE",
    "CLEARML_GPU_QUEUE",
    "CLEARML_SERVICES_QUEUE",
    "CLEARML_DEFAULT_QUEUE",
    "AUTOGLUON_IMAGE",
    "AUTOGLOUON_IMAGE",
    "FLAML_IMAGE",
    "SKLEARN_IMAGE",
    "ULTRALYTICS_IMAGE",
    "TRAINYARD_TASK_CONTAINER_ARGS",
)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def queue(trainer: str, asked: str | None = None) -> str:
    return DispatcherSettings().routing().queue({"trainer": trainer, "queue": asked})


def image(trainer: str) -> str:
    return DispatcherSettings().routing().image(trainer)


def test_without_any_setting_each_trainer_goes_to_a_queue_that_somebody_serves() -> None:
    assert [queue(t) for t in ("autogluon", "flaml", "sklearn", "ultralytics")] == ["cpu", "cpu", "cpu", "gpu"]
    assert image("flaml") == "f3.flaml-trainer:latest"


@pytest.mark.parametrize(
    ("asked", "by_trainer", "kind"), [*itertools.product([None, "mine"], [None, "env"], [None, "x"])]
)
def test_the_request_comes_before_the_environment_and_that_before_the_table(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, by_trainer: str | None, kind: str | None
) -> None:
    if by_trainer:
        monkeypatch.setenv("CLEARML_QUEUE_FLAML", by_trainer)
    if kind:
        monkeypatch.setenv("CLEARML_CPU_QUEUE", kind)
    assert queue("flaml", asked) == (asked or by_trainer or kind or "cpu")


@pytest.mark.parametrize(
    ("environment", "expected_queue", "expected_image", "sentences"),
    [
        ({}, "cpu", "f3.autogluon-trainer:latest", 0),
        ({"CLEARML_QUEUE_AUTOGLUON": "right", "AUTOGLUON_IMAGE": "right:1"}, "right", "right:1", 0),
        ({"CLEARML_QUEUE_AUTOGLOUON": "wrong", "AUTOGLOUON_IMAGE": "wrong:1"}, "wrong", "wrong:1", 2),
        (
            {
                "CLEARML_QUEUE_AUTOGLUON": "right",
                "CLEARML_QUEUE_AUTOGLOUON": "wrong",
                "AUTOGLUON_IMAGE": "right:1",
                "AUTOGLOUON_IMAGE": "wrong:1",
            },
            "right",
            "right:1",
            2,
        ),
    ],
)
def test_the_misspelt_variables_still_count_and_the_right_ones_win(
    monkeypatch: pytest.MonkeyPatch,
    environment: Mapping[str, str],
    expected_queue: str,
    expected_image: str,
    sentences: int,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (queue("autogluon"), image("autogluon")) == (expected_queue, expected_image)
    found = deprecations()
    assert len(found) == sentences
    assert all(right in " ".join(found) for right in MISSPELT.values()) or not found


def test_an_image_is_overridden_per_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ULTRALYTICS_IMAGE", "registry/own:2")
    assert (image("ultralytics"), image("flaml")) == ("registry/own:2", "f3.flaml-trainer:latest")


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEARML_QUEUE_FLAML", "")
    assert queue("flaml") == "cpu"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRAINYARD_MAX_QUEUE_DEPTH", "0"),
        ("TRAINYARD_MAX_QUEUE_DEPTH", "many"),
        ("TRAINYARD_UNKNOWN_QUEUE", "ignore"),
        ("TRAINYARD_ACTION_CONCURRENCY", "-1"),
        ("TRAINYARD_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        read_settings(DispatcherSettings)


def test_a_tasks_container_gets_variables_by_name_and_no_secret() -> None:
    arguments = DispatcherSettings().routing().container_arguments.split()
    assert "--env=TRAINYARD_KAFKA_BOOTSTRAP" in arguments
    assert [argument for argument in arguments if argument.count("=") > 1] == [
        "--env=CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL=1"
    ]


def test_own_container_arguments_replace_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    own = "--env=TRAINYARD_KAFKA_BOOTSTRAP=kafka:9092 -v /a.conf:/etc/clearml.conf:ro --env=AWS_SECRET_ACCESS_KEY"
    monkeypatch.setenv("TRAINYARD_TASK_CONTAINER_ARGS", own)
    assert DispatcherSettings().routing().container_arguments == own


@pytest.mark.parametrize(
    "value",
    [
        "--env=TRAINYARD_KAFKA_PASSWORD=canary",
        "-e AWS_SECRET_ACCESS_KEY=canary",
        '--network=x --env "CLEARML_API_SECRET_KEY=canary"',
        "-eCLEARML_API_ACCESS_KEY=canary",
    ],
)
def test_a_secret_in_container_arguments_is_refused_by_name_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TRAINYARD_TASK_CONTAINER_ARGS", value)
    with pytest.raises(ConfigurationError, match=r"TRAINYARD_TASK_CONTAINER_ARGS.*has a value here") as refusal:
        read_settings(DispatcherSettings)
    assert "canary" not in str(refusal.value)
