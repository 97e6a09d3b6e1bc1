"""How `-n N --dist loadscope` spreads the tests: each by itself, but for those that share what is dear to make.

The groups of xdist itself (`--dist loadgroup`) are not seen by pytest 9.2, and its scopes are whole modules: one with
ten tests of 40 s would run on alone at the end.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).parent
WATCHED = "prometheus: Prometheus"
"""The fixture of the modules of e2e that share a stack that a real Prometheus watches."""


@cache
def shared_by(module: Path) -> str | None:
    """The name of what the tests of a module share with each other, or with other modules; None for nothing dear.

    Modules of e2e stay whole: a process that runs one after the other keeps its stack.
    """
    text = module.read_text()
    if module.is_relative_to(TESTS / "e2e"):
        return WATCHED if WATCHED in text else str(module)
    conftest = module.with_name("conftest.py")
    shares = text + (conftest.read_text() if conftest.exists() else "")
    return str(module) if 'scope="module"' in shares else None


class Spread(LoadScopeScheduling):
    """Tests are units of their own, or of the unit that shares something."""

    def _split_scope(self, nodeid: str) -> str:
        return shared_by(TESTS.parent / nodeid.partition("::")[0]) or nodeid
