"""How long something may take is said by `tests.timing.in_time`, in a test that is marked `timed`.

What runs beside such a test would be measured with it, so CI runs these by themselves. What other users of the machine
do is measured with it all the same: where `in_time` found that something took too long, and only there, it is measured
again.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

from tests.architecture.sources import ROOT
from tests.timing import RERUNS

MEASURED = re.compile(r"(monotonic|perf_counter)\(\) - |\bseconds\b|_s$|\.system\b")
LOOSE_S = 15.0
"""A bound of this many seconds or more is a deadline: a busy machine keeps it as well."""


def _is_bound(node: ast.AST) -> bool:
    """Whether this asserts that a measured time stays below a bound."""
    if not (isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare)):
        return False
    left, operators, (right, *_) = node.test.left, node.test.ops, node.test.comparators
    if len(operators) == 2:  # at least < measured < bound
        left, right = node.test.comparators
    if not isinstance(operators[-1], ast.Lt | ast.LtE) or isinstance(left, ast.Set):
        return False
    if not MEASURED.search(ast.unparse(left)):
        return False
    return not (isinstance(right, ast.Constant) and isinstance(right.value, int | float) and right.value >= LOOSE_S)


def _marked(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator) == "pytest.mark.timed" for decorator in node.decorator_list)


def _says_in_time(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "in_time"


def faults(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines, and what is to be done there; a whole module may be marked by `pytestmark`."""
    whole = any(
        isinstance(node, ast.Assign) and ast.unparse(node) == "pytestmark = pytest.mark.timed" for node in tree.body
    )
    for node in tree.body:
        timed = whole or (isinstance(node, ast.FunctionDef) and _marked(node))
        for inner in ast.walk(node):
            if isinstance(inner, ast.Assert) and _is_bound(inner):
                yield inner.lineno, "say it by tests.timing.in_time"
            elif _says_in_time(inner) and not timed:
                yield inner.lineno, "mark the test timed"


def test_every_bound_on_time_is_said_by_in_time_in_a_timed_test() -> None:
    assert not [
        f"{path.relative_to(ROOT)}:{line}: {advice}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line, advice in faults(ast.parse(path.read_text()))
    ]


@pytest.mark.parametrize(
    ("bound", "found"),
    [
        ("time.monotonic() - begun < 2", True),
        ("1.5 < time.monotonic() - begun < 4.0", True),
        ("seen.frozen_after_s < LEASE_S + 2", True),
        ("results['seconds']['fit'] < 7", True),
        ("results['seconds']['report'] < 15", False),
        ("time.monotonic() < give_up_at", False),
        ("{'seconds'} <= set(results)", False),
    ],
)
def test_a_planted_bound_is_found(bound: str, found: bool) -> None:
    assert bool(list(faults(ast.parse(f"def test_it() -> None:\n    assert {bound}\n")))) is found


def test_a_planted_bound_in_a_test_that_is_not_timed_is_found() -> None:
    source = "def test_it() -> None:\n    in_time(2, time.monotonic() - begun)\n"
    assert list(faults(ast.parse(source))) == [(2, "mark the test timed")]
    assert not list(faults(ast.parse(f"@pytest.mark.timed\n{source}")))
    assert not list(faults(ast.parse(f"pytestmark = pytest.mark.timed\n{source}")))


def test_every_marked_test_is_run_by_ci_apart_from_the_others_and_alone_unless_it_is_patient() -> None:
    steps = Path(ROOT / ".ci" / "run").read_text()
    assert re.findall(r'^tests \d+ "(.*?)" (?:-n (\S+) )?', steps, re.MULTILINE) == [
        ("not timed", '"$at_a_time"'), ("timed and patient", "2"), ("timed and not patient", "")
    ]  # fmt: skip


def test_what_was_too_slow_once_is_measured_again_and_nothing_else_is_run_again(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = timed")
    (tmp_path / "conftest.py").write_text(
        "from tests.timing import measure_again\ndef pytest_collection_modifyitems(items):\n    measure_again(items)\n"
    )
    (tmp_path / "test_planted.py").write_text(
        "import pytest\n"
        "from tests.timing import in_time\n"
        "took_s = {'once': [3.0, 1.0], 'always': [3.0] * 9, 'alone': [3.0, 1.0]}\n"
        "wrong = [True, False]\n"
        "@pytest.mark.timed\n"
        "def test_once(): in_time(2, took_s['once'].pop(0))\n"
        "@pytest.mark.timed\n"
        "def test_always(): in_time(2, took_s['always'].pop(0))\n"
        "@pytest.mark.timed\n"
        "def test_wrong(): assert not wrong.pop(0)\n"
        "def test_alone(): in_time(2, took_s['alone'].pop(0))\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert re.findall(r"^(PASSED|FAILED) \S*::test_(\w+)", done.stdout, re.MULTILINE) == [
        ("PASSED", "once"), ("FAILED", "always"), ("FAILED", "wrong"), ("FAILED", "alone")
    ], done.stdout  # fmt: skip
    assert f" {RERUNS + 1} rerun in " in done.stdout
