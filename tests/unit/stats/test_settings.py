"""What the statistics service takes from the environment, and what it refuses."""

from __future__ import annotations

import os

import pytest

from trainyard_runtime.settings import ConfigurationError, read_settings
from trainyard_stats.settings import StatsSettings


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith(("TRAINYARD_", "CLEARML_"))]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("given", "taken"), [("", ""), (" ", ""), ("a:1, b.example:9092", "a:1,b.example:9092")])
def test_the_kafka_of_clearml_serving_is_host_and_port(monkeypatch: pytest.MonkeyPatch, given: str, taken: str) -> None:
    monkeypatch.setenv("CLEARML_DEFAULT_KAFKA_SERVE_URL", given)
    assert read_settings(StatsSettings).serving_bootstrap == taken


@pytest.mark.parametrize("given", ["kafka", "kafka:port", "http://kafka:9092", "kafka:9092;other:9092", ","])
def test_what_is_no_address_is_refused_with_the_variables_name(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("CLEARML_DEFAULT_KAFKA_SERVE_URL", given)
    with pytest.raises(ConfigurationError, match=r"CLEARML_DEFAULT_KAFKA_SERVE_URL.*host:port"):
        read_settings(StatsSettings)


@pytest.mark.parametrize("given", ["blue", "blue=t@kafka", "blue=t;blue=u"])
def test_what_is_no_source_is_refused_with_the_variables_name(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("TRAINYARD_STATS_SERVING_SOURCES", given)
    with pytest.raises(ConfigurationError, match="TRAINYARD_STATS_SERVING_SOURCES"):
        read_settings(StatsSettings)


BOTH = [("TRAINYARD_STATS_METRIC_LOGGING_FILE", "metric_logging_files"), ("CLEARML_SERVING_TASK_ID", "serving_tasks")]


@pytest.mark.parametrize(("variable", "method"), BOTH)
@pytest.mark.parametrize(
    ("sources", "given", "taken"),
    [
        ("", "", {}),
        ("", "one", {"default": "one"}),
        ("", "default=one", {"default": "one"}),
        ("", "/a folder/x=1.json", {"default": "/a folder/x=1.json"}),
        ("none", "one", {}),
        ("blue=t;green=u", "", {}),
        ("blue=t;green=u", "green=one", {"green": "one"}),
        ("blue=t;green=u", " blue=one ; green=a=b;", {"blue": "one", "green": "a=b"}),
    ],
)
def test_what_belongs_to_a_deployment_is_given_by_its_name_or_bare_to_the_only_one(
    monkeypatch: pytest.MonkeyPatch, variable: str, method: str, sources: str, given: str, taken: dict[str, str]
) -> None:
    monkeypatch.setenv("TRAINYARD_STATS_SERVING_SOURCES", sources)
    monkeypatch.setenv(variable, given)
    found = getattr(read_settings(StatsSettings), method)()
    assert {name: str(value) for name, value in found.items()} == taken


@pytest.mark.parametrize("variable", [variable for variable, _ in BOTH])
@pytest.mark.parametrize(
    ("sources", "given", "sentence"),
    [
        ("blue=t;green=u", "one", "a value names no deployment; write blue=VALUE;green=VALUE"),
        ("blue=t;green=u", "blue=one;two", "a value names no deployment; write blue=VALUE;green=VALUE"),
        ("blue=t", "one;two", "a value names no deployment; write blue=VALUE"),
        ("blue=t;green=u", "red=one", "red is no deployment of TRAINYARD_STATS_SERVING_SOURCES; write blue=VALUE"),
        ("blue=t", "red=one", "red is no deployment"),
        ("none", "red=one", "write nothing, for no deployment is counted"),
        ("blue=t;green=u", "blue=one;blue=two", "named twice"),
        ("blue=t;green=u", "blue=", "has no value"),
    ],
)
def test_what_belongs_to_no_deployment_is_refused_and_said_how_to_write(
    monkeypatch: pytest.MonkeyPatch, variable: str, sources: str, given: str, sentence: str
) -> None:
    monkeypatch.setenv("TRAINYARD_STATS_SERVING_SOURCES", sources)
    monkeypatch.setenv(variable, given)
    with pytest.raises(ConfigurationError, match=f"{variable} is wrong: .*{sentence}"):
        read_settings(StatsSettings)


def test_of_wrong_sources_only_these_are_said_to_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_STATS_SERVING_SOURCES", "blue")
    monkeypatch.setenv("CLEARML_SERVING_TASK_ID", "blue=one")
    with pytest.raises(ConfigurationError) as caught:
        read_settings(StatsSettings)
    assert len(caught.value.sentences) == 1
