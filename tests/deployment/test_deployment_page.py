"""docs/deployment.md: what it says of docker-compose.yml is so; each rule was seen failing."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.architecture.sources import ROOT
from tests.deployment.compose import Deployment, started
from tests.deployment.compose_guards import ONE_SHOT, PUBLISHED

COMMITTED = Deployment.of()
PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
STORES = {"elasticsearch": "9200", "mongo": "27017", "redis": "6379"}
"""What the systems before published and this one does not."""

OF_OTHERS = {"TRAINS_CONFIG_FILE"}
"""Variables that the page names and nobody sets in `.env`."""

_COMMAND = re.compile(r"docker compose((?: --profile \S+)*) (build|down)(?= *(?:#|$|`))", re.MULTILINE)


def commands_act_on_all(page: str) -> list[str]:
    """`build` and `down` are shown with the profiles of everything that they are said to build and to end."""
    services = COMMITTED.services()
    wanted = {"build": {name for name, service in services.items() if "build" in service}, "down": services.keys()}
    broken, shown = [], set()
    for options, command in _COMMAND.findall(page):
        shown.add(command)
        profiles = set(re.findall(r"--profile '?([\w*-]+)", options))
        left_out = wanted[command] - started(services, profiles)
        if left_out:
            broken.append(f"docker compose{options} {command}: leaves out {', '.join(sorted(left_out))}")
    return broken + [f"docker compose {command}: is not shown" for command in sorted(wanted.keys() - shown)]


def profiles_are_described(page: str) -> list[str]:
    """The table names every profile with its services, but for those that only prepare something."""
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", page.split("| profile |")[1].split("\n\n")[0], re.MULTILINE))
    services = COMMITTED.services()
    declared: dict[str, set[str]] = {}
    for name, service in services.items():
        for profile in service.get("profiles", []):
            declared.setdefault(profile, set()).update({name} - (ONE_SHOT - {"submitter"}))
    described = {profile: set(re.findall(r"[\w-]+", text)) & services.keys() for profile, text in rows.items()}
    return [
        f"{profile}: has {sorted(declared.get(profile, ()))}, and the page says {sorted(described.get(profile, ()))}"
        for profile in sorted(declared.keys() | described.keys())
        if declared.get(profile) != described.get(profile)
    ]


def ports_are_described(page: str) -> list[str]:
    """The page names the ports that are published, and those of the stores, which are not."""
    broken = []
    for beginning, ports in (("Published on this host", PUBLISHED), ("Not published are", set(STORES.values()))):
        said = set(re.findall(r"\b\d{4,5}\b", page.split(f"\n{beginning}")[1].split("\n\n")[0]))
        broken += [f"{beginning}: {port} is there, or is not" for port in sorted(said ^ ports)]
    return broken


def variables_are_there(page: str) -> list[str]:
    """Every variable that the page names has a line in .env.example."""
    listed = set(re.findall(r"^#?([A-Z0-9_]+)=", COMMITTED.env_example, re.MULTILINE))
    named = set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)(?:=[^`]*)?`", page))
    return sorted(named - listed - OF_OTHERS)


Rule = Callable[[str], list[str]]
MISTAKES: tuple[tuple[Rule, str, str, str], ...] = (
    (
        commands_act_on_all,
        "docker compose --profile '*' build",
        "docker compose --profile build-only build",
        "docker compose --profile build-only build: leaves out clearml-agent, clearml-agent-cpu",
    ),
    (
        commands_act_on_all,
        "docker compose --profile '*' down",
        "docker compose down",
        "docker compose down: leaves out",
    ),
    (
        commands_act_on_all,
        "docker compose --profile '*' down",
        "docker compose stop",
        "docker compose down: is not shown",
    ),
    (profiles_are_described, "| `gpu` |", "| `cuda` |", "gpu: has ['clearml-agent-gpu'], and the page says []"),
    (profiles_are_described, "clearml-agent-cpu, ", "", "agent: has ['clearml-agent', 'clearml-agent-cpu', "),
    (ports_are_described, "9999 statistics", "9998 statistics", "Published on this host: 9999"),
    (ports_are_described, "27017 MongoDB", "MongoDB", "Not published are: 27017"),
    (variables_are_there, "`DATA_DIR`", "`DATASETS_DIR`", "DATASETS_DIR"),
)


@pytest.mark.parametrize("rule", dict.fromkeys(rule for rule, *_ in MISTAKES))
def test_the_page_keeps_the_rule(rule: Rule) -> None:
    assert rule(PAGE) == []


@pytest.mark.parametrize(("rule", "right", "wrong", "sentence"), MISTAKES)
def test_a_planted_mistake_is_found(rule: Rule, right: str, wrong: str, sentence: str) -> None:
    assert right in PAGE
    broken = rule(PAGE.replace(right, wrong))
    assert [found for found in broken if sentence in found], broken


def test_the_stores_are_there_and_are_not_published() -> None:
    services = COMMITTED.services()
    assert {name for name in STORES if "ports" not in services[name]} == STORES.keys()


def own_values(conf: str) -> list[str]:
    """The lines of a clearml.conf that give an address or a key themselves, instead of naming a variable."""
    named = re.findall(r"^\s*((?:\w+_server|\w+_key|key|secret|host|region)\s*[:=].*)$", conf, re.MULTILINE)
    return [line for line in named if not re.search(r"[:=]\s*\$\{\w+\}$", line)]


def test_clearml_conf_holds_no_address_and_no_key_of_its_own() -> None:
    """`.env` is the one place for them, as the page says: our services do not read this file."""
    files = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "infra" / "clearml").glob("*.conf")}
    assert [line for text in files.values() for line in own_values(text)] == []
    planted = files["clearml.conf"].replace("${CLEARML_API_HOST}", "http://apiserver:8008")
    assert own_values(planted) == ["api_server: http://apiserver:8008"]
