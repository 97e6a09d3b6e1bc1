from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainyard_submitter import Client
from trainyard_submitter.connection import resolve
from trainyard_submitter.errors import ConfigurationError


def stack(home: Path) -> dict[str, str]:
    document = {"bootstrap": "127.0.0.1:9999", "topic_prefix": "local.", "services": {}}
    (home / "stack.json").write_text(json.dumps(document))
    return {"TRAINYARD_HOME": str(home)}


def test_an_option_goes_before_the_environment_and_that_before_the_local_stack(tmp_path: Path) -> None:
    environment = stack(tmp_path)
    local = resolve(None, None, environment)
    assert (local.address.bootstrap, local.topic_prefix) == ("127.0.0.1:9999", "local.")
    environment |= {"TRAINYARD_KAFKA_BOOTSTRAP": "a:1, b:2", "TRAINYARD_TOPIC_PREFIX": "env."}
    from_environment = resolve(None, None, environment)
    assert (from_environment.address.bootstrap, from_environment.topic_prefix) == ("a:1,b:2", "env.")
    optional = resolve("c:3", "option.", environment)
    assert (optional.address.bootstrap, optional.topic_prefix) == ("c:3", "option.")


def test_another_brokers_prefix_is_not_taken_from_the_local_stack(tmp_path: Path) -> None:
    assert resolve("c:3", None, stack(tmp_path)).topic_prefix == "trainyard."


def test_without_any_address_the_sentence_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "starting").mkdir()
    (tmp_path / "starting" / "stack.json").write_text('{"bootstrap": "", "topic_prefix": ""}')
    for home in (tmp_path, tmp_path / "starting"):
        environment = {"TRAINYARD_HOME": str(home)}
        with pytest.raises(ConfigurationError, match=r"trainyard up.*TRAINYARD_KAFKA_BOOTSTRAP") as caught:
            resolve(None, None, environment)
        assert caught.value.exit_code == 78


@pytest.mark.parametrize("servers", ["host", "host:port", ":1", "a:1;b:2", "http://a:1", ","])
def test_an_address_that_is_none_is_a_configuration_error(servers: str) -> None:
    with pytest.raises(ConfigurationError, match="TRAINYARD_KAFKA_BOOTSTRAP"):
        resolve(servers, None, {})


def test_a_prefix_without_its_dot_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="TRAINYARD_TOPIC_PREFIX"):
        resolve("a:1", "trainyard", {})


@pytest.mark.parametrize("content", ["", "[]", "{", '{"topic_prefix": ""}', "\x00"])
def test_a_damaged_stack_file_is_a_configuration_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "stack.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"stack\.json"):
        resolve(None, None, {"TRAINYARD_HOME": str(tmp_path)})


def test_sasl_needs_its_credentials_and_never_shows_them() -> None:
    environment = {
        "TRAINYARD_KAFKA_BOOTSTRAP": "a:1",
        "TRAINYARD_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "TRAINYARD_KAFKA_USERNAME": "me",
    }
    with pytest.raises(ConfigurationError, match="TRAINYARD_KAFKA_PASSWORD"):
        resolve(None, None, environment)
    connection = resolve(None, None, environment | {"TRAINYARD_KAFKA_PASSWORD": "topsecret"})
    assert connection.address.client_options()["sasl_plain_password"] == "topsecret"
    assert "topsecret" not in repr(connection)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRAINYARD_KAFKA_SECURITY_PROTOCOL", "plain"),
        ("TRAINYARD_KAFKA_SASL_MECHANISM", "GSSAPI"),
        ("TRAINYARD_KAFKA_CA_FILE", "no-such-file.pem"),
    ],
)
def test_security_that_cannot_be_is_a_configuration_error(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        resolve("a:1", None, {name: value})


def test_empty_security_variables_are_not_set() -> None:
    names = ("SECURITY_PROTOCOL", "SASL_MECHANISM", "USERNAME", "PASSWORD", "CA_FILE")
    connection = resolve("a:1", None, {f"TRAINYARD_KAFKA_{name}": "" for name in names})
    assert connection.address.client_options() == resolve("a:1", None, {}).address.client_options()


def test_a_client_without_arguments_is_configured_like_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TRAINYARD_KAFKA_BOOTSTRAP", "TRAINYARD_TOPIC_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path))
    with pytest.raises(ConfigurationError, match="TRAINYARD_KAFKA_BOOTSTRAP"):
        Client()
    stack(tmp_path)
    Client().close()
