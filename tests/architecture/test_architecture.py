"""The guards on the workspace itself, and each guard on a planted violation: a guard never seen failing is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.architecture import guards, rules
from tests.architecture.sources import DISTRIBUTIONS, ROOT

Guard = Callable[[Path], list[str]]
ALL: tuple[Guard, ...] = (
    guards.import_direction,
    guards.vendor_homes,
    guards.pure_modules,
    guards.port_driven_modules,
    guards.declared_modules_exist,
    guards.rooms,
    guards.file_lengths,
    guards.promises,
    guards.lost_cancellations,
    guards.addresses,
    guards.requirements,
    guards.commands,
    guards.dependencies,
)
SERVICE = "services/stats/src/trainyard_stats"
LATER, REGISTRY, MACHINE = ("".join(parts) for parts in (("TO", "DO"), ("py", "pi.org"), ("/wo", "rk/main")))
PROJECT = '[project]\nname = "trainyard-stats"\nlicense = "Apache-2.0"\n'


@pytest.mark.parametrize("guard", ALL, ids=lambda guard: guard.__name__)
def test_the_workspace_keeps_the_rule(guard: Guard) -> None:
    assert guard(ROOT) == []


def _plant(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


PLANTED: list[tuple[Guard, str, str, str]] = [
    (
        guards.lost_cancellations,
        f"{SERVICE}/app.py",
        "import asyncio\nasync def f(e: asyncio.Event) -> None:\n    await asyncio.wait_for(e.wait(), 1.0)\n",
        "trainyard_stats.app:3: waits with asyncio.wait_for; write `async with asyncio.timeout(...)`",
    ),
    (
        guards.import_direction,
        f"{SERVICE}/app.py",
        "from trainyard_dispatcher.plan import plan\n",
        "trainyard_stats.app:1: may not import trainyard_dispatcher",
    ),
    (
        guards.import_direction,
        "schemas/src/trainyard_schemas/ids.py",
        "def f() -> None:\n    import trainyard_runtime.logs\n",
        "trainyard_schemas.ids:2: may not import trainyard_runtime",
    ),
    (
        guards.import_direction,
        "runtime/src/trainyard_runtime/logs.py",
        "from trainyard_stats import app\n",
        "trainyard_runtime.logs:1: may not import trainyard_stats",
    ),
    (
        guards.import_direction,
        "infra/simulation/src/trainyard_simulation/world.py",
        "from trainyard_dispatcher.app import build\n",
        "trainyard_simulation.world:1: may not import trainyard_dispatcher",
    ),
    (
        guards.import_direction,
        "infra/devstack/src/trainyard_devstack/stack.py",
        "import trainyard_submitter.client\n",
        "trainyard_devstack.stack:1: may not import trainyard_submitter",
    ),
    (
        guards.vendor_homes,
        f"{SERVICE}/app.py",
        "def f() -> None:\n    from aiokafka import AIOKafkaConsumer\n",
        "trainyard_stats.app:2: imports aiokafka outside of its adapter",
    ),
    (
        guards.vendor_homes,
        "services/submitter/src/trainyard_submitter/client.py",
        "import kafka.errors\n",
        "trainyard_submitter.client:1: imports kafka outside of its adapter",
    ),
    (
        guards.vendor_homes,
        "services/dispatcher/src/trainyard_dispatcher/clearml_tasks.py",
        "from clearml import Task\n",
        "trainyard_dispatcher.clearml_tasks:1: imports clearml outside of its adapter",
    ),
    (
        guards.pure_modules,
        "services/dispatcher/src/trainyard_dispatcher/plan.py",
        "import os\n",
        "trainyard_dispatcher.plan:1: is pure and imports os",
    ),
    (
        guards.pure_modules,
        "schemas/src/trainyard_schemas/lifecycle.py",
        "from datetime import datetime\nX = datetime.now()\n",
        "trainyard_schemas.lifecycle:2: is pure and calls datetime.now",
    ),
    (
        guards.pure_modules,
        "services/dispatcher/src/trainyard_dispatcher/routing.py",
        "from time import monotonic\n",
        "trainyard_dispatcher.routing:1: is pure and imports time",
    ),
    (
        guards.pure_modules,
        "services/dispatcher/src/trainyard_dispatcher/intake.py",
        "import uuid\nX = uuid.uuid4()\n",
        "trainyard_dispatcher.intake:2: is pure and calls uuid.uuid4",
    ),
    (
        guards.pure_modules,
        "services/trainer-worker/src/trainyard_trainer_worker/spec.py",
        "from trainyard_runtime.kafka.async_log import LogReader\n",
        "trainyard_trainer_worker.spec:1: is pure and imports trainyard_runtime.kafka.async_log",
    ),
    (
        guards.pure_modules,
        "schemas/src/trainyard_schemas/text.py",
        "def f() -> str:\n    return open('x').read()\n",
        "trainyard_schemas.text:2: is pure and calls open",
    ),
    (
        guards.port_driven_modules,
        "services/dispatcher/src/trainyard_dispatcher/executor.py",
        "import asyncio\n",
        "trainyard_dispatcher.executor:1: is driven by its ports and imports asyncio",
    ),
    (
        guards.port_driven_modules,
        "services/trainer-worker/src/trainyard_trainer_worker/protocol.py",
        "from trainyard_runtime.clearml import tasks\n",
        "trainyard_trainer_worker.protocol:1: is driven by its ports and imports trainyard_runtime.clearml.tasks",
    ),
    (
        guards.rooms,
        f"{SERVICE}/app.py",
        "def make() -> None: ...\n",
        "services/stats: app.py has no function build",
    ),
    (guards.rooms, f"{SERVICE}/app.py", "", "services/stats: has no room metrics"),
    (
        guards.file_lengths,
        "tests/unit/test_long.py",
        "x = 1\n" * 401,
        "tests/unit/test_long.py: has 401 lines, the limit is 400",
    ),
    (
        guards.promises,
        "docs/guide.md",
        f"fine\n{LATER}: write this\n",
        "docs/guide.md:2: leaves something for later without the number of an issue",
    ),
    (
        guards.addresses,
        "requirements/all.txt",
        f"--index-url https://{REGISTRY}/simple\n",
        "requirements/all.txt:1: holds a registry's address or a path of one machine",
    ),
    (
        guards.addresses,
        "docs/guide.md",
        f"see {MACHINE}/README.md\n",
        "docs/guide.md:1: holds a registry's address or a path of one machine",
    ),
    (
        guards.requirements,
        "requirements/all.txt",
        "pydantic==2.14.3\n",
        "all.txt: pydantic==2.14.3: is not pinned by version and hash",
    ),
    (
        guards.requirements,
        "requirements/all.txt",
        "x @ https://example.org/x.whl --hash=sha256:00\n",
        "all.txt: x @ https://example.org/x.whl --hash=sha256:00: names an address",
    ),
    (
        guards.commands,
        "services/stats/pyproject.toml",
        PROJECT + '[project.entry-points."trainyard.commands"]\nstats = "trainyard_stats.commands:app"\n',
        "services/stats: command stats names trainyard_stats.commands:app, which is not there",
    ),
    (
        guards.commands,
        "services/stats/pyproject.toml",
        PROJECT.replace("Apache-2.0", "MIT"),
        "services/stats: pyproject.toml does not say Apache-2.0",
    ),
    (
        guards.dependencies,
        f"{SERVICE}/app.py",
        "import rich.console\n",
        "services/stats: trainyard_stats.app imports rich, which pyproject.toml does not declare",
    ),
]


@pytest.mark.parametrize(
    ("guard", "file", "text", "sentence"),
    PLANTED,
    ids=[f"{guard.__name__}-{number}" for number, (guard, *_) in enumerate(PLANTED)],
)
def test_a_planted_violation_is_found(guard: Guard, file: str, text: str, sentence: str, tmp_path: Path) -> None:
    assert sentence in guard(_plant(tmp_path, {file: text}))


def test_every_guard_has_a_planted_violation() -> None:
    seen = {guard for guard, *_ in PLANTED}
    assert set(ALL) - seen == {guards.declared_modules_exist}
    assert "trainyard_dispatcher.plan: a rule names it, and it does not exist" in guards.declared_modules_exist(
        ROOT / "docs"
    )


@pytest.mark.parametrize(
    ("file", "text", "guard"),
    [
        ("docs/guide.md", f"{LATER}(#12): after the broker's release\n", guards.promises),
        (
            "requirements/all.txt",
            "a==1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:01\n    # via b\n",
            guards.requirements,
        ),
        (
            "infra/devstack/src/trainyard_devstack/demo.py",
            "from trainyard_submitter import Client\n",
            guards.import_direction,
        ),
        (
            "infra/simulation/src/trainyard_simulation/world.py",
            "from trainyard_dispatcher import plan\nfrom trainyard_dispatcher.executor import Executor\n",
            guards.import_direction,
        ),
        (
            "schemas/src/trainyard_schemas/ids.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import asyncio\n",
            guards.pure_modules,
        ),
    ],
)
def test_what_is_allowed_is_not_found(file: str, text: str, guard: Guard, tmp_path: Path) -> None:
    assert guard(_plant(tmp_path, {file: text})) == []


def test_every_distribution_is_known_to_the_guards() -> None:
    found = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/pyproject.toml")}
    found |= {
        str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/*/pyproject.toml") if ".venv" not in path.parts
    }
    assert found == set(DISTRIBUTIONS)
    assert set(rules.MAY_IMPORT) == set(DISTRIBUTIONS.values())


def test_the_licence_is_apache_2_0() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
