"""Tasks: what creation stores, what filters find, what reset and clone keep."""

from __future__ import annotations

from typing import Any

import pytest

from tests.behaviour.clearml.raw import Made, Raw, with_client
from tests.behaviour.clearml.server import ClearMLServer
from trainyard_runtime.clearml import ClearMLClient, hyperparam_value, hyperparams

EVERYTHING: dict[str, Any] = {
    "script": {"repository": "https://example.org/train.git", "entry_point": "train.py", "requirements": {"pip": "x"}},
    "hyperparams": hyperparams({"Run": {"run_id": "r1", "attempt": "1"}, "General": {"a.b$c": "kept"}}),
    "configuration": {"request": {"name": "request", "value": "{}", "type": "json"}},
    "container": {"image": "python:3.11", "arguments": "--ipc=host"},
    "runtime": {"mark": "m1"},
    "tags": ["automl", "trainer:flaml"],
}


def value_of(task: dict[str, Any], section: str, name: str) -> str | None:
    return hyperparam_value(task, section, name)


def test_one_create_stores_everything(raw: Raw, made: Made) -> None:
    task = raw.task(made.task(**EVERYTHING))
    assert task["script"]["repository"] == "https://example.org/train.git"
    assert task["script"]["requirements"] == {"pip": "x"}
    assert task["configuration"]["request"]["value"] == "{}"
    assert task["container"]["image"] == "python:3.11"
    assert task["runtime"]["mark"] == "m1"
    assert sorted(task["tags"]) == ["automl", "trainer:flaml"]
    assert value_of(task, "Run", "run_id") == "r1"


def test_create_ignores_the_id_and_the_status_it_is_given(raw: Raw, made: Made) -> None:
    body = {"name": made.name(), "type": "training", "id": "f" * 32, "status": "completed"}
    task = raw.ok("tasks.create", **body)["id"]
    made.tasks.append(task)
    assert task != "f" * 32
    assert raw.task(task)["status"] == "created"


def test_a_key_with_dots_and_dollars_survives(raw: Raw, made: Made) -> None:
    task = made.task(**EVERYTHING)
    assert value_of(raw.task(task), "General", "a.b$c") == "kept"
    raw.ok("tasks.edit", task=task, comment="edited")
    assert value_of(raw.task(task), "General", "a.b$c") == "kept"


@pytest.mark.parametrize("action", ["tasks.get_all", "tasks.get_all_ex"])
def test_hyperparameters_are_filters_for_one_value_or_a_list(raw: Raw, made: Made, action: str) -> None:
    mine, other = made.name("run"), made.name("run")
    first = made.task(hyperparams=hyperparams({"Run": {"run_id": mine}}))
    second = made.task(hyperparams=hyperparams({"Run": {"run_id": other}}))
    key = "hyperparams.Run.run_id.value"

    def found(value: object) -> set[str]:
        return {task["id"] for task in raw.ok(action, **{key: value, "only_fields": ["id"]})["tasks"]}

    assert found(mine) == {first}
    assert found([mine, other, "nobody"]) == {first, second}
    assert found(mine[:-1]) == set()


def test_runtime_is_a_filter_for_one_value(raw: Raw, made: Made) -> None:
    mark = made.name("mark").replace(" ", "")
    task = made.task(runtime={"mark": mark})
    found = raw.ok("tasks.get_all", **{"runtime.mark": mark, "only_fields": ["id"]})["tasks"]
    assert [one["id"] for one in found] == [task]


def test_filters_read_their_own_writes(raw: Raw, made: Made) -> None:
    task, mark = made.task(), made.name("run")
    raw.ok("tasks.edit_hyper_params", task=task, hyperparams=[{"section": "Run", "name": "run_id", "value": mark}])
    found = raw.ok("tasks.get_all", **{"hyperparams.Run.run_id.value": mark, "only_fields": ["id", "status"]})["tasks"]
    assert [(one["id"], one["status"]) for one in found] == [(task, "created")]
    raw.ok("tasks.started", task=task)
    found = raw.ok("tasks.get_all", **{"hyperparams.Run.run_id.value": mark, "only_fields": ["id", "status"]})["tasks"]
    assert [(one["id"], one["status"]) for one in found] == [(task, "in_progress")]


def test_archived_tasks_are_found_too(raw: Raw, made: Made) -> None:
    mark = made.name("run")
    task = made.task(hyperparams=hyperparams({"Run": {"run_id": mark}}), system_tags=["archived"])
    found = raw.ok("tasks.get_all", **{"hyperparams.Run.run_id.value": [mark], "only_fields": ["id"]})["tasks"]
    assert [one["id"] for one in found] == [task]


def test_reset_keeps_tags_and_hyperparameters_and_wipes_runtime(raw: Raw, made: Made) -> None:
    task = made.task("in_progress", **EVERYTHING)
    raw.ok("tasks.reset", task=task)
    found = raw.task(task)
    assert found["status"] == "created"
    assert sorted(found["tags"]) == ["automl", "trainer:flaml"]
    assert value_of(found, "Run", "run_id") == "r1"
    assert not found.get("runtime")


def test_a_clone_copies_hyperparameters_and_tags_and_sets_its_parent(raw: Raw, made: Made) -> None:
    task = made.task(**EVERYTHING)
    clone = raw.ok("tasks.clone", task=task, new_task_name=made.name("clone"))["id"]
    made.tasks.append(clone)
    found = raw.task(clone)
    assert clone != task
    assert found["status"] == "created"
    assert found["parent"] == task
    assert sorted(found["tags"]) == ["automl", "trainer:flaml"]
    assert value_of(found, "Run", "run_id") == "r1"
    assert not found.get("runtime")


@pytest.mark.parametrize("body", [{"type": "training"}, {"name": "no type"}, {"name": 7, "type": "training"}])
def test_a_missing_or_wrong_typed_field_is_12(raw: Raw, body: dict[str, Any]) -> None:
    assert raw("tasks.create", body).code == (400, 12)


def test_a_name_under_three_characters_is_800(raw: Raw) -> None:
    assert raw("tasks.create", name="ab", type="training").code == (400, 800)


def test_a_hyperparameter_that_is_no_string_is_800(raw: Raw, made: Made) -> None:
    bad = {"General": {"lr": {"section": "General", "name": "lr", "value": 0.1}}}
    assert raw("tasks.create", name=made.name(), type="training", hyperparams=bad).code == (400, 800)


@pytest.mark.parametrize("field", ["project", "parent"])
def test_a_project_or_parent_that_does_not_exist_is_16(raw: Raw, made: Made, field: str) -> None:
    assert raw("tasks.create", {"name": made.name(), "type": "training", field: "0" * 32}).code == (400, 16)


def test_the_client_creates_finds_edits_and_deletes(clearml_server: ClearMLServer, made: Made) -> None:
    mark, project = made.name("run"), made.project()

    async def act(client: ClearMLClient) -> None:
        body = {"name": mark, "type": "training", "project": project, **EVERYTHING}
        body["hyperparams"] = hyperparams({"Run": {"run_id": mark, "attempt": "2"}})
        task = await client.create_task(body)
        made.tasks.append(task)
        found = await client.find_tasks_by_run([mark, "nobody"])
        assert [one["id"] for one in found] == [task]
        assert found[0]["status"] == "created"
        assert not found[0].get("parent")
        assert hyperparam_value(found[0], "Run", "attempt") == "2"
        await client.edit_hyper_params(task, {"Run": {"attempt": "3"}, "Result": {"f1": "0.9"}})
        await client.edit_task(task, {"comment": "edited"})
        shown = await client.get_task(task, ["comment", "hyperparams"])
        assert shown is not None
        assert shown["comment"] == "edited"
        assert hyperparam_value(shown, "Run", "attempt") == "3"
        assert hyperparam_value(shown, "Run", "run_id") == mark
        assert hyperparam_value(shown, "Result", "f1") == "0.9"
        await client.delete_task(task)
        assert await client.get_task(task) is None
        assert await client.find_tasks_by_run([mark]) == []

    with_client(clearml_server, act)


def test_the_client_drives_a_task_from_its_queue_to_its_end(clearml_server: ClearMLServer, made: Made) -> None:
    queue, task = made.queue(), made.task()

    async def act(client: ClearMLClient) -> None:
        change = await client.enqueue_task(task, queue)
        assert change.previous_status == "created"
        assert await client.get_next_task(queue) == task
        assert await client.get_next_task(queue) is None
        assert "started" in (await client.task_started(task, message="popped")).fields
        await client.ping_task(task)
        await client.task_completed(task, reason="completed", message="all is well")
        shown = await client.get_task(task, ["status", "status_message"])
        assert shown is not None
        assert (shown["status"], shown["status_message"]) == ("completed", "all is well")
        await client.reset_task(task, force=True)
        await client.enqueue_task(task, queue)
        await client.task_stopped(task)
        await client.task_failed(task, message="after a stop")
        assert (await client.get_task(task, ["status"]) or {})["status"] == "failed"

    with_client(clearml_server, act)


def test_the_client_finds_nothing_with_an_empty_filter(clearml_server: ClearMLServer, made: Made) -> None:
    made.task()

    async def act(client: ClearMLClient) -> list[dict[str, Any]]:
        return await client.find_tasks({"id": []}, ["id"])

    assert with_client(clearml_server, act) == []
