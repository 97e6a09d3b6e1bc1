"""docker-compose.yml: what every profile starts, what services are told, and guards that were each seen failing."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from tests.deployment import compose_guards as guards
from tests.deployment.compose import Deployment, InterpolationError, dotenv, interpolate, started, uses_in
from tests.deployment.compose_guards import AGENT_QUEUES
from tests.deployment.planted import MISTAKES, Guard
from trainyard_dispatcher.settings import TASK_CONTAINER_ARGS
from trainyard_runtime.settings import ConfigurationError, read_settings
from trainyard_schemas.topics import DEFAULT_PREFIX

COMMITTED = Deployment.of()

CORE = {
    "kafka",
    "topics",
    "dispatcher",
    "gateway",
    "sklearn-trainer",
    "flaml-trainer",
    "autogluon-trainer",
    "apiserver",
    "webserver",
    "fileserver",
    "async_delete",
    "elasticsearch",
    "mongo",
    "redis",
    "minio",
    "minio-buckets",
}
PROFILES = {
    "build-only": {"submitter"},
    "serving": {"clearml-serving", "clearml-serving-stats", "serving-topic"},
    "monitoring": {"clearml-serving-stats", "serving-topic", "prometheus", "grafana"},
    "agent": {"clearml-agent", "clearml-agent-cpu", "clearml-agent-services"},
    "gpu": {"clearml-agent-gpu"},
}


@pytest.mark.parametrize("guard", guards.GUARDS, ids=lambda guard: guard.__name__)
def test_the_committed_files_keep_the_rule(guard: Guard) -> None:
    assert guard(COMMITTED) == []


@pytest.mark.parametrize(
    ("guard", "right", "wrong", "sentence"),
    MISTAKES,
    ids=[f"{guard.__name__}-{number}" for number, (guard, *_) in enumerate(MISTAKES)],
)
def test_a_planted_mistake_is_found(guard: Guard, right: str, wrong: str, sentence: str) -> None:
    assert right in COMMITTED.compose
    planted = dataclasses.replace(COMMITTED, compose=COMMITTED.compose.replace(right, wrong))
    assert [found for found in guard(planted) if sentence in found], guard(planted)


def test_every_guard_was_seen_failing() -> None:
    assert {mistake[0] for mistake in MISTAKES} == set(guards.GUARDS)


def test_a_missing_line_of_the_example_is_found() -> None:
    without = COMMITTED.env_example.replace("#GRAFANA_IMAGE=", "#GRAFFANA_IMAGE=")
    found = guards.example_is_complete(dataclasses.replace(COMMITTED, env_example=without))
    assert found == [
        "GRAFANA_IMAGE: used, but not in .env.example",
        "GRAFFANA_IMAGE: in .env.example, but the compose file does not use it",
    ]


def test_what_each_profile_starts() -> None:
    services = COMMITTED.services()
    assert started(services, set()) == CORE
    for profile, more in PROFILES.items():
        assert started(services, {profile}) == CORE | more, profile
    assert started(services, set(PROFILES)) == services.keys()


def test_the_services_of_the_systems_before_are_there_under_their_names() -> None:
    before = {
        "apiserver",
        "webserver",
        "fileserver",
        "async_delete",
        "redis",
        "mongo",
        "elasticsearch",
        "minio",
        "kafka",
    }
    before |= {"clearml-serving", "clearml-serving-stats", "prometheus", "grafana", *AGENT_QUEUES}
    before |= {"autogluon-trainer", "flaml-trainer"}
    assert before <= COMMITTED.services().keys()
    assert "zookeeper" not in COMMITTED.services()


@pytest.mark.parametrize("service", guards.SETTINGS)
@pytest.mark.parametrize(
    "source", [{}, {"TRAINYARD_TOPIC_PREFIX": "other.", "CLEARML_API_HOST": "https://clearml.example"}]
)
def test_our_settings_classes_accept_what_each_service_is_told(
    service: str, source: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = guards.environment(COMMITTED.services(source)[service])
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    read = [read_settings(settings) for settings in guards.SETTINGS[service]]
    prefixes = {s.topic_prefix for s in read if hasattr(s, "topic_prefix")}
    assert prefixes == {source.get("TRAINYARD_TOPIC_PREFIX", DEFAULT_PREFIX)}


def test_a_value_that_a_settings_class_refuses_is_seen_by_the_test_above(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in guards.environment(COMMITTED.services({"TRAINYARD_TOPIC_PREFIX": "no dot"})["topics"]).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="TRAINYARD_TOPIC_PREFIX"):
        read_settings(guards.SETTINGS["topics"][0])


def test_the_names_of_the_agents_queues_reach_agents_and_dispatcher() -> None:
    names = dict(zip(AGENT_QUEUES.values(), ("d1", "c1", "g1", "s1"), strict=True))
    services = COMMITTED.services(names)
    told = guards.environment(services["dispatcher"])
    assert {name: told[name] for name in names} == names
    for agent, variable in AGENT_QUEUES.items():
        command = services[agent]["command"]
        assert command[command.index("--queue") + 1] == names[variable]


def test_task_containers_find_the_network_and_start_the_agents_shell_unless_asked_otherwise() -> None:
    name = "CLEARML_AGENT_EXTRA_DOCKER_ARGS"
    default = guards.environment(COMMITTED.services()["clearml-agent"])[name].split()
    network = COMMITTED.resolved()["networks"]["backend"]["name"]
    assert default == [f"--network={network}", "--entrypoint=", "--user=0:0"]
    asked = "--env=CLEARML_MODEL_TAGS=candidate"
    assert guards.environment(COMMITTED.services({name: asked})["clearml-agent"])[name] == asked


def test_every_variable_that_a_task_names_has_its_value_in_the_agents() -> None:
    named = set(re.findall(r"--env=(\w+)(?=\s|$)", TASK_CONTAINER_ARGS))
    assert "TRAINYARD_KAFKA_BOOTSTRAP" in named
    for agent in AGENT_QUEUES:
        assert named <= guards.environment(COMMITTED.services()[agent]).keys()


@pytest.mark.parametrize(
    ("text", "variables", "result"),
    [
        ("a$$b", {}, "a$b"),
        ("$A-${A}", {"A": "1"}, "1-1"),
        ("${A:-x}", {"A": ""}, "x"),
        ("${A:-${B:-${C:-z}}}!", {}, "z!"),
        ("${A:-${B:-y}}", {"B": "b"}, "b"),
        ("${A:-}", {}, ""),
        ("${A:--Xmx1g}", {}, "-Xmx1g"),
    ],
)
def test_interpolation(text: str, variables: dict[str, str], result: str) -> None:
    assert interpolate(text, variables) == result


@pytest.mark.parametrize("text", ["${A", "${A:?no}", "$1", "${}", "${A:-${B}"])
def test_what_compose_would_refuse_or_we_do_not_use_is_refused(text: str) -> None:
    with pytest.raises(InterpolationError):
        interpolate(text, {})


def test_uses_within_a_default_are_seen_too() -> None:
    found = [(use.variable, use.nested) for use in uses_in("${A:-${B:-c}}/$D")]
    assert found == [("A", False), ("B", True), ("D", False)]


def test_the_example_is_a_dotenv_file_that_sets_nothing_by_itself(tmp_path: Path) -> None:
    assert dotenv(COMMITTED.env_example) == {"TRAINYARD_KAFKA_BOOTSTRAP": ""}
    assert all(re.match(r"#|[A-Z0-9_]+=|$", line) for line in COMMITTED.env_example.splitlines())
