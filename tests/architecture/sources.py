"""What the guards look at: the source files of a workspace, and what each of them imports."""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTIONS = {
    "schemas": "trainyard_schemas",
    "runtime": "trainyard_runtime",
    "services/submitter": "trainyard_submitter",
    "services/dispatcher": "trainyard_dispatcher",
    "services/trainer-worker": "trainyard_trainer_worker",
    "services/stats": "trainyard_stats",
    "infra/devstack": "trainyard_devstack",
    "infra/simulation": "trainyard_simulation",
}
"""The folder of each distribution and the name that it is imported by."""
NOT_OURS = {"__pycache__", "node_modules", "dist", "build"}


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module by its full name, and the line. For `from a.b import c` both `a.b` and `a.b.c` are given."""

    module: str
    line: int


@dataclass(frozen=True, slots=True)
class Module:
    """One source file of a distribution; `name` is what it is imported by."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    def imports(self) -> Iterator[Import]:
        """Everything imported, wherever in the file; imports for type checking only are left out."""
        skipped = {
            id(inner)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for statement in node.body
            for inner in ast.walk(statement)
        }
        for node in ast.walk(self.tree):
            if id(node) in skipped:
                continue
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(alias.name, node.lineno)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield Import(node.module, node.lineno)
                for alias in node.names:
                    yield Import(f"{node.module}.{alias.name}", node.lineno)


def modules(root: Path) -> list[Module]:
    """Every module of every distribution below `root`."""
    found = []
    for folder, package in DISTRIBUTIONS.items():
        source = root / folder / "src"
        for path in sorted((source / package).rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append(Module(name, path, _parsed(path, path.stat().st_mtime_ns)))
    return found


@functools.cache
def _parsed(path: Path, changed_ns: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), f"{path} of {changed_ns}")


def within(module: str, place: str) -> bool:
    """Whether a module is `place` or inside of it."""
    return module == place or module.startswith(f"{place}.")


def text_files(root: Path, *suffixes: str) -> Iterator[Path]:
    """Every file of ours with one of the suffixes ('' for none); of the hidden folders only `.ci`."""
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if name not in NOT_OURS and (name[0] != "." or name == ".ci"))
        yield from (Path(folder, name) for name in sorted(names) if Path(name).suffix in suffixes)
