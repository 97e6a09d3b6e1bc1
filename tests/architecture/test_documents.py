"""What the pages for readers say is there is there."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.architecture.sources import DISTRIBUTIONS, ROOT, within
from trainyard_schemas.upcasting import parse_request

PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"), *ROOT.glob("bench/*.md")]
)
PACKAGES = tuple(f"{package}/" for package in DISTRIBUTIONS.values())
LAUNCHERS_OWN = {"test", "lock", "bench"}
"""Commands that `./trainyard` itself knows, before there is any package."""

_LINK = re.compile(r"\[[^\]]*\]\((?!https?://|#|mailto:)([^)#\s]+)")
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _expanded(room: str) -> Path | None:
    """A room like `services/dispatcher/.../routing.py` as the path that it means."""
    if room.startswith(PACKAGES):
        folder = next(folder for folder, package in DISTRIBUTIONS.items() if within(room.replace("/", "."), package))
        return ROOT / folder / "src" / room
    if "/.../" not in room:
        return ROOT / room
    folder, rest = room.split("/.../", 1)
    package = DISTRIBUTIONS.get(folder)
    return None if package is None else ROOT / folder / "src" / package / rest


def dead_links(text: str, folder: Path) -> list[str]:
    return [target for target in _LINK.findall(text) if not (folder / target).exists()]


def missing_rooms(table: str) -> list[str]:
    """The rooms and tests of a finder table that do not exist."""
    missing = []
    for row in re.findall(r"^\|(?!\s*-)(.*)\|$", table, re.MULTILINE)[1:]:
        for room in re.findall(r"`([^`\s]+/[^`\s]*)`", row):
            path = _expanded(room)
            if not room.startswith("/") and (path is None or not path.exists()):
                missing.append(room)
    return missing


def test_the_pages_that_every_reader_starts_with_are_there() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= {_name(page) for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert dead_links(page.read_text(), page.parent) == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_example_in_json_is_json_and_every_request_valid(page: Path) -> None:
    for language, block in _FENCE.findall(page.read_text()):
        if language == "json":
            document = json.loads(block)
            if isinstance(document, dict) and "trainer" in document and "dataset" in document:
                parse_request(document)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_command_line_is_one_for_a_shell(page: Path) -> None:
    for language, block in _FENCE.findall(page.read_text()):
        if language in ("bash", "sh"):
            done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


def test_every_command_that_a_page_names_exists() -> None:
    commands = {entry.name for entry in importlib.metadata.entry_points(group="trainyard.commands")}
    named = {name for page in PAGES for name in re.findall(r"\./trainyard ([a-z]+)", page.read_text())}
    assert len(named) > 5
    launcher = (ROOT / "trainyard").read_text()
    assert all(f'"{name}"' in launcher for name in LAUNCHERS_OWN)
    assert named <= commands | LAUNCHERS_OWN


def test_every_room_of_the_finder_table_is_there() -> None:
    assert missing_rooms((ROOT / "CONTRIBUTING.md").read_text()) == []


def test_every_folder_of_the_readme_is_there_and_every_distribution_is_in_it() -> None:
    text = (ROOT / "README.md").read_text()
    folders = re.findall(r"^([a-z/-]+)/ +\S", text, re.MULTILINE)
    assert set(DISTRIBUTIONS) <= set(folders)
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []


def test_every_decision_is_in_the_list_of_decisions() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = set(_LINK.findall((folder / "README.md").read_text()))
    assert {path.name for path in folder.glob("0*.md")} <= listed


def test_a_dead_link_and_a_missing_room_would_be_found() -> None:
    assert dead_links("see [this](no/such/page.md) and [that](README.md)", ROOT) == ["no/such/page.md"]
    table = "| I want to | room | test |\n| --- | --- | --- |\n| x | `services/stats/.../nowhere.py` | `tests/unit` |\n"
    assert missing_rooms(table) == ["services/stats/.../nowhere.py"]
