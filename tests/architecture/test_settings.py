"""`.env.example` is complete and true; every setting has a unit, a sentence and a name of ours or of the SDK's."""

from __future__ import annotations

import ast
import re

import pytest
from pydantic_settings import BaseSettings

from tests.architecture import env_example
from tests.architecture.sources import ROOT, modules
from trainyard_runtime.settings import ConfigurationError, read_settings

VARIABLE = re.compile(r"^(?:TRAINYARD|CLEARML|AWS)_[A-Z][A-Z_]*[A-Z]$")
CLASSES = [settings for _, settings in env_example.SECTIONS]


def test_the_committed_file_is_what_the_settings_classes_say() -> None:
    assert env_example.path().read_text() == env_example.render(), "run python -m tests.architecture.env_example"


def test_every_settings_class_is_in_it() -> None:
    named = {
        node.name
        for module in modules(ROOT)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Settings") for base in node.bases)
    }
    known = {settings.__name__ for settings in [*CLASSES, *env_example.WITHOUT_ENVIRONMENT]}
    assert named - {"EnvironmentSettings"} == known


def test_every_variable_that_the_sources_name_is_in_it() -> None:
    named = {
        node.value
        for module in modules(ROOT)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and VARIABLE.match(node.value)
    }
    listed = set(re.findall(r"^#?([A-Z_]+)=", env_example.render(), re.MULTILINE))
    assert len(named) > 30
    assert named <= listed


@pytest.mark.parametrize("settings", CLASSES, ids=lambda settings: settings.__name__)
def test_every_setting_says_what_it_is_and_in_which_unit(settings: type[BaseSettings]) -> None:
    for name, field in settings.model_fields.items():
        assert field.description, f"{name} has no description"
        assert field.description.endswith("."), f"{name}: its description is no sentence"
        assert settings.model_config.get("frozen"), f"{settings.__name__} is not frozen"
        if field.annotation is float or field.annotation == (float | None):
            assert name.endswith(("_s", "_ms", "_bytes", "_ratio")), f"{name} has no unit"


@pytest.mark.parametrize("settings", [*CLASSES, *env_example.WITHOUT_ENVIRONMENT], ids=lambda s: s.__name__)
def test_no_variable_of_another_program_is_read(settings: type[BaseSettings]) -> None:
    """A setting `host` without a prefix would be read from HOST, which login shells set."""
    for name, field in settings.model_fields.items():
        variable = env_example.variable(settings, name, field)
        assert variable.startswith(("TRAINYARD_", "CLEARML_", "AWS_")) or variable.endswith("_IMAGE"), variable


CANARY = "hunter2-canary\n<secret>"


@pytest.mark.parametrize("settings", CLASSES, ids=lambda settings: settings.__name__)
def test_a_wrong_setting_is_named_and_its_value_is_not_repeated(
    settings: type[BaseSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, field in settings.model_fields.items():
        monkeypatch.setenv(env_example.variable(settings, name, field), CANARY)
    with pytest.raises(ConfigurationError) as refused:
        read_settings(settings)
    error = refused.value
    assert all(re.match(r"(?:TRAINYARD|CLEARML|AWS)_[A-Z_]+ ", sentence) for sentence in error.sentences)
    assert "canary" not in f"{error} {error!r} {error.sentences!r}"
    assert error.__cause__ is None


@pytest.mark.parametrize("settings", CLASSES, ids=lambda settings: settings.__name__)
def test_a_secret_setting_is_not_shown_with_the_others(
    settings: type[BaseSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINYARD_KAFKA_BOOTSTRAP", "broker:9092")
    secret = {n: f for n, f in settings.model_fields.items() if re.search(r"password|secret|token|credential", n)}
    for name, field in secret.items():
        monkeypatch.setenv(env_example.variable(settings, name, field), CANARY)
    assert "canary" not in repr(read_settings(settings))


def test_no_settings_are_built_at_module_level() -> None:
    built = [
        f"{module.name}:{node.lineno}"
        for module in modules(ROOT)
        for node in module.tree.body
        for call in ast.walk(node)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(call, ast.Call)
        and ast.unparse(call.func).endswith("Settings")
    ]
    assert built == []
