"""The guards: each takes the root of a workspace and gives a sentence per violation, none where all is well."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.architecture import rules
from tests.architecture.sources import DISTRIBUTIONS, Import, Module, modules, text_files, within


def _line(module: Module, at: int, what: str) -> str:
    return f"{module.name}:{at}: {what}"


def _own(imported: str) -> str | None:
    package = imported.partition(".")[0]
    return package if package in DISTRIBUTIONS.values() else None


def _simulated(imported: str) -> bool:
    return any(within(imported, place) for place in (*rules.PURE, *rules.PORT_DRIVEN))


def _allowed(module: Module, imported: str, target: str) -> bool:
    if target == module.package or target in rules.MAY_IMPORT[module.package]:
        return True
    if any(within(module.name, place) and target == to for place, to in rules.EXCEPTIONS):
        return True
    return module.package == "trainyard_simulation" and (
        _simulated(imported) or any(place.startswith(f"{imported}.") for place in (*rules.PURE, *rules.PORT_DRIVEN))
    )


def _most_precise(found: Iterator[Import]) -> list[Import]:
    """Of `a.b` and `a.b.c` on one line only the latter."""
    listed = list(found)
    return [
        one
        for one in listed
        if not any(other.line == one.line and other.module.startswith(f"{one.module}.") for other in listed)
    ]


def import_direction(root: Path) -> list[str]:
    """schemas <- runtime <- services; services never import each other; the simulation imports what it drives."""
    return [
        _line(module, found.line, f"may not import {target}")
        for module in modules(root)
        for found in _most_precise(module.imports())
        if (target := _own(found.module)) is not None and not _allowed(module, found.module, target)
    ]


def vendor_homes(root: Path) -> list[str]:
    """A vendor's client is imported in its adapter only."""
    return sorted(
        {
            _line(module, found.line, f"imports {vendor} outside of its adapter")
            for module in modules(root)
            for found in module.imports()
            for vendor, homes in rules.VENDORS.items()
            if within(found.module, vendor) and not any(within(module.name, home) for home in homes)
        }
    )


def _is_pure(name: str) -> bool:
    return any(within(name, place) for place in rules.PURE) and name not in rules.NOT_PURE


def _impure_import(found: Import) -> bool:
    return any(within(found.module, name) for name in (*rules.IMPURE, *rules.VENDORS))


def _impure_own_import(found: Import) -> bool:
    return within(found.module, "trainyard_runtime") and not (
        _is_pure(found.module)
        or _is_pure(found.module.rpartition(".")[0])
        or any(place.startswith(f"{found.module}.") for place in rules.PURE)
    )


def pure_modules(root: Path) -> list[str]:
    """Pure modules import no I/O, no clock and no chance, and call none."""
    broken = []
    for module in modules(root):
        if not _is_pure(module.name):
            continue
        for found in module.imports():
            if _impure_import(found) or _impure_own_import(found):
                broken.append(_line(module, found.line, f"is pure and imports {found.module}"))
        broken += [_line(module, line, f"is pure and calls {name}") for line, name in _impure_calls(module.tree)]
    return sorted(set(broken))


def _impure_calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in rules.IMPURE_CALLS or name.endswith(rules.IMPURE_METHODS):
                yield node.lineno, name


def port_driven_modules(root: Path) -> list[str]:
    """What the simulation drives awaits its ports only: no asyncio, no clock, no vendor."""
    broken = []
    for module in modules(root):
        if module.name not in rules.PORT_DRIVEN:
            continue
        for found in module.imports():
            may = any(within(found.module, place) or within(place, found.module) for place in rules.PORT_DRIVEN_MAY)
            if _impure_import(found) or (_impure_own_import(found) and not may):
                broken.append(_line(module, found.line, f"is driven by its ports and imports {found.module}"))
        broken += [
            _line(module, line, f"is driven by its ports and calls {n}") for line, n in _impure_calls(module.tree)
        ]
    return sorted(set(broken))


def declared_modules_exist(root: Path) -> list[str]:
    """Every module that a rule names is there: a rule about nothing guards nothing."""
    names = {module.name for module in modules(root)}
    named = {*rules.PURE, *rules.NOT_PURE, *rules.PORT_DRIVEN, *(place for place, _ in rules.EXCEPTIONS)}
    named |= {home for vendor, homes in rules.VENDORS.items() for home in homes if vendor != "prometheus_client"}
    return [f"{name}: a rule names it, and it does not exist" for name in sorted(named - names)]


def rooms(root: Path) -> list[str]:
    """Every long-running service has the same rooms, and a composition root `app.build`."""
    broken = []
    for folder in rules.LONG_RUNNING:
        source = root / folder / "src" / DISTRIBUTIONS[folder]
        broken += [f"{folder}: has no room {room}" for room in rules.ROOMS if not (source / f"{room}.py").is_file()]
        app = source / "app.py"
        if app.is_file():
            defined = {
                node.name
                for node in ast.parse(app.read_text(encoding="utf-8")).body
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            }
            if "build" not in defined:
                broken.append(f"{folder}: app.py has no function build")
    return broken


def file_lengths(root: Path) -> list[str]:
    """No source file is longer than the hard limit."""
    counts = ((path, len(path.read_text(encoding="utf-8").splitlines())) for path in text_files(root, ".py"))
    return [
        f"{path.relative_to(root)}: has {lines} lines, the limit is {rules.MAX_LINES}"
        for path, lines in counts
        if lines > rules.MAX_LINES
    ]


_LATER = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b(?!\s*\(?#\d+)")


def promises(root: Path) -> list[str]:
    """Whatever is left for later names its issue, like `(#12)`."""
    return [
        f"{path.relative_to(root)}:{number}: leaves something for later without the number of an issue"
        for path in text_files(root, ".py", ".md", ".toml", ".yaml", ".yml", ".sh", "")
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if _LATER.search(line)
    ]


def lost_cancellations(root: Path) -> list[str]:
    """`async with asyncio.timeout(...)`: Python 3.11's `wait_for` loses a cancellation that comes with the answer."""
    return [
        _line(module, node.lineno, "waits with asyncio.wait_for; write `async with asyncio.timeout(...)`")
        for module in modules(root)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "asyncio.wait_for"
    ]


_ADDRESS = re.compile(
    "|".join(
        (
            r"(?:py" r"pi|python" r"hosted|np" r"mjs)\.(?:org|com)",
            r"repo1?\.ma" r"ven\.",
            r"/wo" r"rk/(?:main|shared)\b",
            r"(?<![\w.])/ro" r"ot/",
        )
    )
)


def addresses(root: Path) -> list[str]:
    """No registry's address and no path of one machine is written down."""
    return [
        f"{path.relative_to(root)}:{number}: holds a registry's address or a path of one machine"
        for path in text_files(root, ".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".json", ".sh", ".html", "")
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if _ADDRESS.search(line)
    ]


def requirements(root: Path) -> list[str]:
    """Every locked requirement is pinned, has a hash and names no address."""
    broken = []
    for path in sorted((root / "requirements").rglob("*.txt")):
        joined = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in joined.splitlines():
            text = line.partition(" #")[0].strip()
            if not text or text.startswith("#"):
                continue
            if "==" not in text or "--hash=sha256:" not in text:
                broken.append(f"{path.name}: {text[:60]}: is not pinned by version and hash")
            if "://" in text or "index-url" in text:
                broken.append(f"{path.name}: {text[:60]}: names an address")
    return broken


def commands(root: Path) -> list[str]:
    """Every entry point of `trainyard.commands` names a module of its own distribution that is there."""
    broken = []
    for folder, package in DISTRIBUTIONS.items():
        file = root / folder / "pyproject.toml"
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"] if file.is_file() else {}
        if project.get("license") != "Apache-2.0":
            broken.append(f"{folder}: pyproject.toml does not say Apache-2.0")
        for name, target in project.get("entry-points", {}).get("trainyard.commands", {}).items():
            module, _, attribute = target.partition(":")
            place = root / folder / "src" / Path(*module.split("."))
            source = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
            if not within(module, package) or not source.is_file():
                broken.append(f"{folder}: command {name} names {target}, which is not there")
            elif not re.search(rf"^(?:def |async def |){attribute}\b", source.read_text(encoding="utf-8"), re.M):
                broken.append(f"{folder}: command {name} names {attribute}, which {module} does not define")
    return broken


def dependencies(root: Path) -> list[str]:
    """What a distribution imports, its own pyproject.toml declares, as a dependency or an extra."""
    providers = importlib.metadata.packages_distributions()
    broken = set()
    found_modules = modules(root)
    for folder, package in DISTRIBUTIONS.items():
        file = root / folder / "pyproject.toml"
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"] if file.is_file() else {}
        extras = project.get("optional-dependencies", {}).values()
        declared = {_canonical(line) for lines in (project.get("dependencies", []), *extras) for line in lines}
        declared |= rules.COMES_WITH_RUNTIME if "trainyard-runtime" in declared else set()
        for module in found_modules:
            for found in module.imports() if module.package == package else ():
                top = found.module.partition(".")[0]
                if top == package or top in sys.stdlib_module_names:
                    continue
                names = {_canonical(name) for name in providers.get(top, [top])}
                names |= {rules.ONE_WITH[name] for name in names & rules.ONE_WITH.keys()}
                if not names & declared:
                    broken.add(f"{folder}: {module.name} imports {top}, which pyproject.toml does not declare")
    return sorted(broken)


def _canonical(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else ""
