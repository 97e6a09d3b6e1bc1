"""Pages, scrolls, projections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.behaviour.clearml.raw import Made, Raw, with_client
from tests.behaviour.clearml.server import ClearMLServer
from trainyard_runtime.clearml import ClearMLClient, hyperparams

MANY = 503


@pytest.fixture(scope="module")
def crowd(raw: Raw) -> Iterator[tuple[str, set[str]]]:
    """More tasks than a page holds, all with one run id."""
    made = Made(raw)
    mark = made.name("crowd")
    params = hyperparams({"Run": {"run_id": mark}})
    tasks = {made.task(hyperparams=params, name=f"{mark} {index}") for index in range(MANY)}
    yield mark, tasks
    made.clean()


def test_pages_hold_500_and_are_disjoint(raw: Raw, crowd: tuple[str, set[str]]) -> None:
    mark, tasks = crowd
    pages = [
        raw.ok(
            "tasks.get_all",
            **{"hyperparams.Run.run_id.value": [mark], "only_fields": ["id"], "page": page, "page_size": 500},
            order_by=["name"],
        )["tasks"]
        for page in range(3)
    ]
    assert [len(page) for page in pages] == [500, 3, 0]
    assert {task["id"] for page in pages for task in page} == tasks


def test_a_scroll_keeps_its_id_and_ends_with_an_empty_list(raw: Raw, crowd: tuple[str, set[str]]) -> None:
    mark, tasks = crowd
    filters: dict[str, Any] = {"hyperparams.Run.run_id.value": mark, "only_fields": ["id"], "size": 300}
    seen: list[str] = []
    ids: set[str] = set()
    scroll_id: str | None = None
    for _ in range(3):
        data = raw.ok("tasks.get_all", **filters, scroll_id=scroll_id)
        scroll_id = data["scroll_id"]
        ids.add(data["scroll_id"])
        seen += [task["id"] for task in data["tasks"]]
    assert data["tasks"] == []
    assert len(ids) == 1
    assert len(seen) == MANY
    assert set(seen) == tasks


def test_the_client_finds_more_than_a_page(clearml_server: ClearMLServer, crowd: tuple[str, set[str]]) -> None:
    mark, tasks = crowd

    async def act(client: ClearMLClient) -> list[dict[str, Any]]:
        return await client.find_tasks_by_run([mark])

    found = with_client(clearml_server, act)
    assert len(found) == MANY
    assert {task["id"] for task in found} == tasks


def test_only_fields_answers_nested_objects_with_only_what_was_asked(raw: Raw, made: Made) -> None:
    task = made.task(
        hyperparams=hyperparams({"Run": {"run_id": "r1", "attempt": "1"}, "General": {"lr": "0.1"}}), tags=["a-tag"]
    )
    asked = ["id", "status", "hyperparams.Run.run_id.value", "execution.queue"]
    found = raw.ok("tasks.get_all", id=[task], only_fields=asked)["tasks"][0]
    assert found["hyperparams"] == {"Run": {"run_id": {"value": "r1"}}}
    assert found["id"] == task
    assert found["status"] == "created"
    assert not {"name", "tags", "created", "script"} & found.keys()


@pytest.mark.parametrize("field", ["only_fields", "order_by"])
def test_an_unknown_field_in_a_projection_or_order_is_14(raw: Raw, field: str) -> None:
    assert raw("tasks.get_all", {field: ["no_such_field"]}).code == (400, 14)


def test_an_empty_list_is_no_filter(raw: Raw, made: Made) -> None:
    task = made.task()
    name = raw.task(task)["name"]
    found = raw.ok("tasks.get_all", id=[], name=f"^{name}$", only_fields=["id"])["tasks"]
    assert [one["id"] for one in found] == [task]


def test_the_order_can_be_asked_for_in_both_directions(raw: Raw, made: Made) -> None:
    mark = made.name("ordered")
    names = [f"{mark} {letter}" for letter in "bca"]
    for name in names:
        made.task(name=name)

    def shown(order: str) -> list[str]:
        found = raw.ok("tasks.get_all", name=f"^{mark}", order_by=[order], only_fields=["id", "name"])["tasks"]
        return [one["name"] for one in found]

    assert shown("name") == sorted(names)
    assert shown("-name") == sorted(names, reverse=True)


def test_status_and_tags_and_project_are_filters(raw: Raw, made: Made) -> None:
    project = made.project()
    plain = made.task(project=project)
    started = made.task("in_progress", project=project, tags=["special"])

    def found(**filters: Any) -> set[str]:
        return {one["id"] for one in raw.ok("tasks.get_all", project=[project], only_fields=["id"], **filters)["tasks"]}

    assert found() == {plain, started}
    assert found(status=["in_progress"]) == {started}
    assert found(status=["created", "in_progress"]) == {plain, started}
    assert found(tags=["special"]) == {started}


def test_get_all_ex_names_what_get_all_only_refers_to(raw: Raw, made: Made) -> None:
    project = made.project()
    task = made.task(project=project)
    name = raw.ok("projects.get_by_id", project=project)["project"]["name"]
    shown = raw.ok("tasks.get_all_ex", id=[task], only_fields=["id", "project.name"])["tasks"][0]
    assert shown["project"]["name"] == name
    assert raw.ok("tasks.get_all", id=[task], only_fields=["id", "project"])["tasks"][0]["project"] == project
