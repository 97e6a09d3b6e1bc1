"""What starts often, or stays in memory, imports nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "aiokafka", "autogluon", "clearml", "fastapi", "faststream", "flaml", "jgo", "kafka", "lightgbm", "matplotlib",
    "numpy", "pandas", "rich", "sklearn", "starlette", "structlog", "typer", "uvicorn",
)  # fmt: skip


def _loaded(module: str) -> set[str]:
    code = f"import sys, json, {module}; print(json.dumps([m for m in sys.modules if '.' not in m]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout)) & set(HEAVY)


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("trainyard_schemas.lifecycle", set()),
        ("trainyard_schemas.upcasting", set()),
        ("trainyard_submitter", set()),
        ("trainyard_submitter.client", {"kafka"}),
        ("trainyard_submitter.cli", {"kafka"}),
        ("trainyard_trainer_worker.app", {"aiokafka", "structlog"}),
        ("trainyard_stats.app", {"aiokafka", "structlog"}),
        ("trainyard_submitter.gateway.app", {"aiokafka", "structlog", "starlette", "uvicorn"}),
    ],
)
def test_a_module_imports_nothing_heavier_than_it_must(module: str, allowed: set[str]) -> None:
    assert _loaded(module) <= allowed


def test_a_heavy_import_would_be_seen() -> None:
    assert "pandas" in _loaded("pandas")
