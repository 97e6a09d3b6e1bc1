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
