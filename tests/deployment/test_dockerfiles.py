"""infra/docker: what the images are built from and what they start; each guard was seen failing."""

from __future__ import annotations

import dataclasses
import re
import subprocess

import pytest

from tests.deployment import docker_guards as guards
from tests.deployment.compose import Deployment
from tests.deployment.dockerfiles import ignored, parse
from tests.deployment.planted import Guard

COMMITTED = Deployment.of()
D = "infra/docker/dispatcher.Dockerfile"
S = "infra/docker/submitter.Dockerfile"
A = "infra/docker/clearml-agent.Dockerfile"
T = "infra/docker/trainer-worker.Dockerfile"

MISTAKES: tuple[tuple[Guard, str, str, str, str], ...] = (
    (guards.bases_are_pinned, D, "3.11.14-slim-bookworm", "latest", f"{D}: python:latest names no version"),
    (guards.bases_are_pinned, D, "python:3.11.14-slim-bookworm", "python", f"{D}: python names no version"),
    (guards.bases_are_pinned, D, "\nFROM ${PYTHON_IMAGE}\n", "\n", f"{D}: builds in the image that runs"),
    (guards.nobody_is_root, D, "USER 10001:10001", "USER 0:0", f"{D}: runs as 0:0"),
    (guards.nobody_is_root, D, "USER 10001:10001\n", "", f"{D}: runs as root"),
    (guards.entry_points_are_the_tested_ones, D, '"trainyard_dispatcher"]', '"trainyard_dispatch"]', f"{D}: starts"),
    (guards.entry_points_are_the_tested_ones, D, '["python", "-m", ', '["python", -m ', f"{D}: its entry point is no"),
    (guards.health_is_asked, D, "/healthz", "/health", "does not ask /healthz"),
    (guards.health_is_asked, S, "HEALTHCHECK NONE\n", "", f"{S}: has no page, and does not say"),
    (guards.what_is_copied_is_there, D, "COPY runtime ", "COPY runtimes ", f"{D}: runtimes (for dispatcher) is not"),
    (guards.what_is_copied_is_there, T, "${TRAINER}.txt", "${TRAINER}s.txt", "images/flamls.txt (for flaml"),
    (guards.what_is_copied_is_there, D, "COPY runtime runtime", "COPY docs docs", "docs is ignored by .docker"),
    (guards.what_is_copied_is_there, D, "--from=build", "--from=builder", f"{D}: copies from a stage builder"),
    (guards.installs_are_locked, D, "--require-hashes ", "", "installs what is not locked"),
    (guards.installs_are_locked, A, "--no-install-recommends ", "", "apt installs more"),
    (guards.installs_are_locked, D, "pip check", "pip list", f"{D}: does not check that the installed"),
    (guards.own_packages_are_installed, D, " ./runtime", "", f"{D}: copies ['runtime', 'schemas',"),
    (guards.own_packages_are_installed, D, "services/dispatcher", "services/stats", "does not install trainyard_"),
    (guards.labels_are_set, D, "image.revision=", "image.commit=", f"{D}: has no label revision"),
    (guards.secrets_stay_out, D, "ARG VERSION=0.1.0", "ARG API_TOKEN=x", "ARG holds a secret"),
)  # fmt: skip


@pytest.mark.parametrize("guard", guards.GUARDS, ids=lambda guard: guard.__name__)
def test_the_committed_files_keep_the_rule(guard: Guard) -> None:
    assert guard(COMMITTED) == []


@pytest.mark.parametrize(
    ("guard", "file", "right", "wrong", "sentence"),
    MISTAKES,
    ids=[f"{guard.__name__}-{number}" for number, (guard, *_) in enumerate(MISTAKES)],
)
def test_a_planted_mistake_is_found(guard: Guard, file: str, right: str, wrong: str, sentence: str) -> None:
    text = COMMITTED.dockerfiles[file]
    assert right in text
    planted = dataclasses.replace(COMMITTED, dockerfiles={**COMMITTED.dockerfiles, file: text.replace(right, wrong)})
    assert [found for found in guard(planted) if sentence in found], guard(planted)


def test_a_file_that_is_sent_to_the_builder_for_nothing_is_found() -> None:
    planted = dataclasses.replace(COMMITTED, dockerignore=COMMITTED.dockerignore + "!.env\n")
    assert guards.build_context_is_small(planted) == [".dockerignore: .env is sent to the builder"]


def test_every_guard_was_seen_failing() -> None:
    assert {mistake[0] for mistake in MISTAKES} == set(guards.GUARDS) - {guards.build_context_is_small}


def test_every_image_is_locked_by_the_launcher_and_built_by_the_compose_file() -> None:
    locked = {path.stem for path in (COMMITTED.root / "requirements" / "images").glob("*.txt")}
    copied = {
        source
        for _, _, stages in guards.builds(COMMITTED)
        for stage in stages
        for instruction in stage.all("COPY")
        for source in instruction.copied()[1]
        if source.startswith("requirements/images/")
    }
    assert copied == {f"requirements/images/{name}.txt" for name in locked}
    launcher = (COMMITTED.root / "trainyard").read_text(encoding="utf-8")
    table = re.search(r"^IMAGES = \{\n(.*?)^\}", launcher, re.MULTILINE | re.DOTALL)
    assert table is not None
    assert set(re.findall(r'^    "([\w-]+)":', table[1], re.MULTILINE)) == locked


def test_the_images_are_as_the_workspace_is_locked() -> None:
    """One version of a package for all: what an image holds, the tests run with, or only ClearML's programs need."""
    pins = {
        path: dict(re.findall(r"^([\w.-]+)==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE))
        for path in (COMMITTED.root / "requirements").rglob("*.txt")
    }
    versions: dict[str, set[str]] = {}
    for found in pins.values():
        for name, version in found.items():
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_instructions_are_joined_and_arguments_filled_in() -> None:
    stages = parse(
        "ARG I=a:1\nFROM ${I} AS b\n# no\nRUN one \\\n # no\n && two\nFROM ${I}\nARG N\nCOPY ${N} /x\n", {"N": "n"}
    )
    assert [(stage.base, stage.name) for stage in stages] == [("a:1", "b"), ("a:1", "")]
    assert [(i.line, i.rest) for i in stages[0].all("RUN")] == [(4, "one && two")]
    assert stages[1].all("COPY")[0].copied() == (None, ["n"], "/x")


@pytest.mark.parametrize(
    ("path", "out"),
    [
        ("a", True),
        ("b/c", False),
        ("b/__pycache__", True),
        ("b/__pycache__/x", True),
        ("d/e.sh", False),
        ("d/e.py", True),
    ],
)
def test_the_last_pattern_that_fits_decides(path: str, out: bool) -> None:
    assert ignored("# comment\n*\n!b\n!d/*.sh\n**/__pycache__\n", path) is out


def test_the_agents_entry_point_ends_well_without_keys_only_where_it_is_told_to() -> None:
    script = COMMITTED.root / "infra" / "docker" / "clearml-agent-entrypoint.sh"
    ends = {
        asked: subprocess.run(
            ["sh", str(script)], env={"SHUTDOWN_IF_NO_ACCESS_KEY": asked}, capture_output=True, check=False
        )
        for asked in ("1", "")
    }
    assert {asked: end.returncode for asked, end in ends.items()} == {"1": 0, "": 78}
    assert all(b"CLEARML_API_ACCESS_KEY is not set" in end.stderr for end in ends.values())
