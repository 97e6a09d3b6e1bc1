"""One suite, any ClearML server: the embedded one, or `--clearml=URL`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.behaviour.clearml.raw import Made, Raw
from tests.behaviour.clearml.server import ClearMLServer


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`test_embedded_*` is about our own server only: deselected when another one is tested."""
    if config.getoption("--clearml") is not None:
        ours = [item for item in items if item.path.name.startswith("test_embedded_")]
        ours = [item for item in ours if item.path.parent.name == "clearml"]
        config.hook.pytest_deselected(items=ours)
        items[:] = [item for item in items if item not in ours]


@pytest.fixture(scope="session")
def raw(clearml_server: ClearMLServer) -> Iterator[Raw]:
    caller = Raw(clearml_server)
    yield caller
    caller.http.close()


@pytest.fixture
def made(raw: Raw) -> Iterator[Made]:
    things = Made(raw)
    yield things
    things.clean()
