"""A test that says how long something may take is marked `timed`: what runs beside it would be measured with it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

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


def unmarked(tree: ast.Module) -> Iterator[int]:
    """The lines of the bounds that stand in nothing marked; a whole module may be marked by `pytestmark`."""
    if any(
        isinstance(node, ast.Assign) and ast.unparse(node) == "pytestmark = pytest.mark.timed" for node in tree.body
    ):
        return
    for node in tree.body:
        if not (isinstance(node, ast.FunctionDef) and _marked(node)):
            yield from (inner.lineno for inner in ast.walk(node) if isinstance(inner, ast.Assert) and _is_bound(inner))


def test_every_bound_on_time_is_asserted_by_a_timed_test() -> None:
    assert not [
        f"{path.relative_to(ROOT)}:{line}: mark the test timed"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line in unmarked(ast.parse(path.read_text()))
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
    source = f"def test_it() -> None:\n    assert {bound}\n"
    assert list(unmarked(ast.parse(source))) == ([2] if found else [])
    assert not list(unmarked(ast.parse(f"@pytest.mark.timed\n{source}")))


def test_every_marked_test_is_run_alone_by_ci() -> None:
    steps = Path(ROOT / ".ci" / "run").read_text()
    assert '-m "not timed"' in steps
    assert "-m timed" in steps
