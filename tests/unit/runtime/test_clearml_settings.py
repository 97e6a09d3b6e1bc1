"""An address of ClearML that is none is refused at the door, and no secret in it is printed."""

from __future__ import annotations

import pytest

from trainyard_runtime.clearml import ClearMLSettings
from trainyard_runtime.settings import ConfigurationError, read_settings


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("http://user:planted-secret@clearml:8008", "no user and no password"),
        ("http://clearml:80a", "a port that is a number"),
        ("http://clearml:99999", "a port that is a number"),
        ("http://", "must be an address"),
        ("http://:8008", "must name a host"),
        ("clearml:8008", "must be an address"),
    ],
)
def test_what_is_no_address_is_refused_with_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, given: str, says: str
) -> None:
    monkeypatch.setenv("CLEARML_API_HOST", given)
    with pytest.raises(ConfigurationError, match="CLEARML_API_HOST") as caught:
        read_settings(ClearMLSettings)
    assert says in str(caught.value)
    assert "planted-secret" not in str(caught.value)


@pytest.mark.parametrize("given", ["http://clearml:8008", "https://clearml.example/", "http://[::1]:8008"])
def test_an_address_is_taken_without_its_last_slash(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("CLEARML_API_HOST", given)
    assert read_settings(ClearMLSettings).api_host == given.rstrip("/")
