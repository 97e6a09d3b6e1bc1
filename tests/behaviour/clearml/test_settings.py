"""The client's settings: the SDK's own environment variables, and errors that name them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from trainyard_runtime.clearml import ClearMLSettings


def test_settings_are_read_from_the_sdk_s_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEARML_API_HOST", "https://api.example.org/")
    monkeypatch.setenv("CLEARML_FILES_HOST", "https://files.example.org")
    monkeypatch.setenv("CLEARML_API_ACCESS_KEY", "the-key")
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "the-secret")
    settings = ClearMLSettings()
    assert settings.api_host == "https://api.example.org"
    assert settings.files_host == "https://files.example.org"
    assert settings.access_key == "the-key"
    assert settings.secret_key.get_secret_value() == "the-secret"
    assert "the-secret" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("CLEARML_API_HOST", "localhost:8008"), ("CLEARML_FILES_HOST", ""), ("TRAINYARD_CLEARML_TIMEOUT_S", "0")],
)
def test_a_bad_setting_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError, match=variable):
        ClearMLSettings()
