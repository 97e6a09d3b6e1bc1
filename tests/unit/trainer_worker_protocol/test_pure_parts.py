"""Names, results, buffers and settings of the worker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.trainer_worker_protocol.world import World
from trainyard_runtime.settings import ConfigurationError, read_settings
from trainyard_schemas.events import AttemptSucceeded, decode_event, encode_event, make_event
from trainyard_trainer_worker import tracking_buffer
from trainyard_trainer_worker.child_output import CONSOLE_HEAD_BYTES, CONSOLE_TAIL_LINES, MAX_LINE_BYTES
from trainyard_trainer_worker.folders import own_folders
from trainyard_trainer_worker.metrics import WorkerMetrics
from trainyard_trainer_worker.model_naming import (
    attempt_path,
    metadata_items,
    model_name,
    model_project,
    next_version,
)
from trainyard_trainer_worker.results import MAX_BYTES, MAX_VALUES, bounded, count_values
from trainyard_trainer_worker.settings import TrainerWorkerSettings
from trainyard_trainer_worker.tracking_buffer import Point, TrackingBuffer

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("trainer", "run_name", "expected"),
    [
        ("flaml", "demo-run", "demo-run-flaml"),
        ("flaml", "wine-flaml", "wine-flaml"),
        ("flaml", "flaml-demo-run", "flaml-demo-run"),
        ("sklearn", "Wine (SKLearn)", "Wine (SKLearn)"),
        ("flaml", "notflaml run", "notflaml run-flaml"),
    ],
)
def test_a_model_is_named_after_trainer_and_run(trainer: str, run_name: str, expected: str) -> None:
    assert model_name(trainer, run_name) == expected


def test_models_of_the_default_project_are_in_automl_models() -> None:
    assert model_project("AutoML") == "AutoML-Models"


def test_each_run_is_a_new_version_of_its_model() -> None:
    first = {"metadata": {"version": {"key": "version", "type": "str", "value": "1"}}}
    foreign = {"metadata": {"version": {"key": "version", "type": "str", "value": "v9"}}}
    assert next_version([]) == 1
    assert next_version([first, foreign, {}, {"metadata": None}]) == 2


def test_files_of_two_claims_never_meet_and_names_cannot_climb() -> None:
    assert attempt_path("r", 1, "c1", "model.tar.gz") != attempt_path("r", 1, "c2", "model.tar.gz")
    assert attempt_path("r", 1, "c", "../../x y") == "trainyard/runs/r/1/c/.._.._x_y"


def test_metadata_are_strings_and_leave_out_what_is_unknown() -> None:
    assert metadata_items({"a": 1, "b": None, "c": "x"}) == {
        "a": {"key": "a", "type": "str", "value": "1"},
        "c": {"key": "c", "type": "str", "value": "x"},
    }


@given(st.dictionaries(st.text(min_size=1), JSON, max_size=8))
def test_small_results_are_kept_as_they_are(results: dict[str, Any]) -> None:
    assert bounded(results) == results


@pytest.mark.parametrize(
    "large",
    [{"config": "x" * 600_000}, {"classes": list(range(20_000))}, {"a": "x" * 150_000, "b": ["y" * 150_000]}],
    ids=["bytes", "values", "two"],
)
def test_large_results_stay_readable_and_keep_what_matters(large: dict[str, Any]) -> None:
    kept = bounded({"metric": "accuracy", "value": 0.5, "model": {"id": "m"}, **large})
    assert kept["model"] == {"id": "m"}
    assert kept["left_out"]
    assert count_values(kept) <= MAX_VALUES
    fact = AttemptSucceeded(
        run_id="11111111-2222-5333-8444-555555555555",
        attempt=1,
        task_id="t",
        claim="claim-0001",
        worker="w",
        results=kept,
    )
    value, headers = encode_event(make_event(fact, source="s", writer="w", now=0.0))
    assert len(value) < 2 * MAX_BYTES
    assert decode_event(value, headers).fact == fact


def test_whole_numbers_that_no_reader_takes_become_text() -> None:
    kept = bounded({"classes": [2**63 - 1, 2**64 - 1, True], "config": {"seed": -(10**30)}})
    assert kept == {"classes": [2**63 - 1, str(2**64 - 1), True], "config": {"seed": str(-(10**30))}}


def test_a_buffer_gives_lines_in_order_in_bounded_batches() -> None:
    buffer = TrackingBuffer()
    for number in range(10):
        buffer.line(f"{number} " + "x" * 20_000, at_ms=number)
    texts = []
    while batch := buffer.take(99):
        texts.append(batch.text)
        assert len(batch.text) <= tracking_buffer.BATCH_CONSOLE_BYTES
    assert [line[0] for text in texts for line in text.split("\n")] == [str(number) for number in range(10)]
    assert buffer.is_empty


def test_a_buffer_is_bounded_while_nobody_takes_from_it_and_says_what_it_left_out() -> None:
    buffer = TrackingBuffer()
    for _ in range(200_000):
        buffer.line("x" * 99, at_ms=0)
    for number in range(tracking_buffer.MAX_WAITING_SCALARS + 10):
        buffer.point(Point("t", "s", 1.0, number, 0))
    assert buffer.left_out_points == 10
    sent, points = "", 0
    while batch := buffer.take(0):
        sent += batch.text
        points += len(batch.points)
        assert len(batch.points) <= tracking_buffer.BATCH_SCALARS
    assert len(sent) <= tracking_buffer.MAX_WAITING_CONSOLE_BYTES + 100
    assert sent.endswith("lines of output were left out here]")
    assert points == tracking_buffer.MAX_WAITING_SCALARS


def test_the_last_lines_of_a_child_that_prints_without_end_fit_behind_its_first_ones() -> None:
    buffer = TrackingBuffer()
    for _ in range(CONSOLE_HEAD_BYTES // 1_000 + 1):
        buffer.line("x" * 999, at_ms=0)
    for _ in range(CONSOLE_TAIL_LINES):
        buffer.line("y" * MAX_LINE_BYTES, at_ms=0)
    buffer.line("[trainyard] trained: accuracy 1.0, baseline 0.4", at_ms=0)
    sent = ""
    while batch := buffer.take(0):
        sent += batch.text + "\n"
    assert sent.count("y" * MAX_LINE_BYTES + "\n") == CONSOLE_TAIL_LINES
    assert sent.endswith("[trainyard] trained: accuracy 1.0, baseline 0.4\n")


def test_an_attempt_s_console_is_bounded_in_all() -> None:
    buffer = TrackingBuffer()
    total = 0
    for _ in range(2_000):
        for _ in range(10):
            buffer.line("x" * 999, at_ms=0)
        while batch := buffer.take(0):
            total += len(batch.text)
    assert total < tracking_buffer.MAX_CONSOLE_BYTES + 100_000


def settings(monkeypatch: pytest.MonkeyPatch, **environment: str) -> TrainerWorkerSettings:
    for name in [n for n in os.environ if n.startswith(("TRAINYARD_", "CLEARML_"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return read_settings(TrainerWorkerSettings)


def test_queues_tags_and_folders_are_lists_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(
        monkeypatch,
        TRAINYARD_WORKER_QUEUES="gpu, cpu,gpu",
        CLEARML_MODEL_TAGS="candidate, nightly",
        CLEARML_MODEL_PUBLISH="true",
        TRAINYARD_DATA_ROOTS=f"/data{os.pathsep}/more",
    )
    assert found.queues == ("gpu", "cpu")
    assert found.model_tags == ("candidate", "nightly")
    assert found.model_publish is True
    assert found.data_roots == ("/data", "/more")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRAINYARD_WORKER_QUEUES", "ab"),
        ("TRAINYARD_WORKER_QUEUES", " , "),
        ("TRAINYARD_DATA_ROOTS", "relative/path"),
        ("TRAINYARD_WORKER_N_JOBS", "0"),
        ("TRAINYARD_WORKER_SLOTS", "0"),
        ("TRAINYARD_WORKER_DRAIN_S", "-1"),
        ("TRAINYARD_WORKER_POLL_S", "-1"),
        ("TRAINYARD_WORKER_DEADLINE_S", "soon"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        settings(monkeypatch, **{name: value})


def test_the_worker_s_name_is_the_same_at_every_start_and_differs_by_state_folder(tmp_path: Path) -> None:
    one, again, other = (
        TrainerWorkerSettings(state_dir=tmp_path / folder).name() for folder in ("one", "one", "other")
    )
    assert one == again != other
    assert ":trainyard-" in one


def test_each_slot_has_a_name_of_its_own_and_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    found = settings(monkeypatch, TRAINYARD_WORKER_SLOTS="3", TRAINYARD_WORKER_NAME="here")
    assert found.slot_names() == ("here", "here:1", "here:2")
    assert found.threads_per_slot() == 2
    assert settings(monkeypatch, TRAINYARD_WORKER_SLOTS="16").threads_per_slot() == 1
    assert settings(monkeypatch, TRAINYARD_WORKER_N_JOBS="5").threads_per_slot() == 5


def test_each_slot_has_its_share_of_the_memory_unless_a_limit_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = settings(monkeypatch).memory_limit_per_slot()
    assert settings(monkeypatch, TRAINYARD_WORKER_SLOTS="4").memory_limit_per_slot() == whole // 4
    limit = {"TRAINYARD_WORKER_SLOTS": "4", "TRAINYARD_WORKER_MEMORY_LIMIT_BYTES": str(1 << 30)}
    assert settings(monkeypatch, **limit).memory_limit_per_slot() == 1 << 30


def test_two_workers_cannot_share_a_state_folder(tmp_path: Path) -> None:
    chosen = TrainerWorkerSettings(state_dir=tmp_path / "state")
    with own_folders(chosen) as folders:
        assert folders.outbox is not None
        assert folders.work.is_dir()
        with pytest.raises(ConfigurationError, match="in use by another trainer worker"), own_folders(chosen):
            pass
    with own_folders(chosen) as folders:
        assert folders.data_cache == (tmp_path / "state").resolve() / "data"
    with own_folders(chosen, tmp_path / "shared") as folders:
        assert folders.data_cache == tmp_path / "shared"


def test_metrics_render_as_prometheus_text() -> None:
    metrics = WorkerMetrics(2, lambda: 2.0, lambda: 1.0)
    metrics.phase("fit", 1.5)
    metrics.handled.labels(str(World().dispatch().pop())).inc()
    text = metrics.render().decode()
    assert "trainyard_worker_slots 2.0" in text
    assert "trainyard_worker_outbox_depth 2.0" in text
    assert 'trainyard_worker_tasks_total{result="succeeded"} 1.0' in text
    assert 'trainyard_worker_phase_seconds_count{phase="fit"} 1.0' in text
