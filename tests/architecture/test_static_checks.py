"""ruff and `mypy --strict` over everything, as tests: what they find fails like any other test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import DISTRIBUTIONS, ROOT

EXAMPLES = ("examples/clients", "examples/serving")
EVERYTHING = [*(f"{folder}/src" for folder in DISTRIBUTIONS), "tests", "bench", *EXAMPLES, "infra/grafana"]


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)


def test_ruff_finds_nothing() -> None:
    done = _run("ruff", "check", "--no-cache", *EVERYTHING, "trainyard")
    assert done.returncode == 0, done.stdout


def test_ruff_would_change_no_format() -> None:
    done = _run("ruff", "format", "--check", "--no-cache", *EVERYTHING, "trainyard")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_mypy_strict_finds_nothing() -> None:
    done = _run("mypy", *EVERYTHING, "trainyard")
    assert done.returncode == 0, done.stdout


def test_ruff_and_mypy_see_a_planted_mistake(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("import os\n\n\ndef f(x) -> int:\n    return 'x'\n")
    config = str(ROOT / "pyproject.toml")
    assert "F401" in _run("ruff", "check", "--no-cache", "--config", config, str(planted)).stdout
    found = _run("mypy", "--config-file", config, "--cache-dir", str(tmp_path / "cache"), str(planted)).stdout
    assert "Incompatible return value type" in found
    assert "missing a type annotation" in found
