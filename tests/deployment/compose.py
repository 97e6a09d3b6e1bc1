"""docker-compose.yml as Compose reads it: interpolation, profiles, and every use of a variable."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.architecture.sources import ROOT

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class InterpolationError(Exception):
    """A text that Compose would refuse; the message quotes it."""


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a variable; `default` is the text after `:-`, with its own variables unresolved, or None.

    `nested` is true for a use within another one's default.
    """

    variable: str
    default: str | None
    nested: bool


@dataclass(frozen=True, slots=True)
class Deployment:
    """The files that deploy, as texts, so that a test can plant a mistake. `root` is where what they name must lie."""

    compose: str
    env_example: str
    dockerfiles: Mapping[str, str]
    dockerignore: str
    root: Path = ROOT

    @staticmethod
    def of(root: Path = ROOT) -> Deployment:
        """What is committed."""
        return Deployment(
            (root / "docker-compose.yml").read_text(encoding="utf-8"),
            (root / ".env.example").read_text(encoding="utf-8"),
            {
                path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
                for path in sorted((root / "infra" / "docker").glob("*.Dockerfile"))
            },
            (root / ".dockerignore").read_text(encoding="utf-8"),
            root,
        )

    def uses(self) -> list[Use]:
        """Every use of a variable in the compose file, nested ones too."""
        return [use for text in texts(self.compose) for use in uses_in(text)]

    def resolved(self, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The document with every profile, variables from `.env.example` below `environment`."""
        variables = {**dotenv(self.env_example), **(environment or {})}
        return _resolved(self.compose, frozenset(variables.items()))

    def services(self, environment: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
        """The services of `resolved`, by name."""
        services: dict[str, dict[str, Any]] = self.resolved(environment)["services"]
        return services

    def raw_services(self) -> dict[str, dict[str, Any]]:
        """The services with their variables unresolved."""
        services: dict[str, dict[str, Any]] = _parsed(self.compose)["services"]
        return services


# Reading the file takes 0.1 s, and every guard does it several times.
@functools.lru_cache(maxsize=8)
def _parsed(compose: str) -> dict[str, Any]:
    document = yaml.safe_load(compose)
    assert isinstance(document, dict)
    return document


@functools.lru_cache(maxsize=32)
def _resolved(compose: str, variables: frozenset[tuple[str, str]]) -> dict[str, Any]:
    values = dict(variables)
    document = _map(_parsed(compose), lambda text: interpolate(text, values))
    assert isinstance(document, dict)
    return document


def started(services: Mapping[str, Mapping[str, Any]], profiles: set[str]) -> set[str]:
    """What `docker compose --profile ...` acts on: services without a profile, and those of the given ones, `*` all."""
    return {
        name
        for name, service in services.items()
        if not service.get("profiles") or {*service["profiles"], "*"} & profiles
    }


def texts(compose: str) -> list[str]:
    """Every text of a compose file that Compose interpolates."""
    return list(_strings(_parsed(compose)))


def dotenv(text: str) -> dict[str, str]:
    """The assignments of a `.env` file, without the commented ones."""
    pairs = (line.partition("=") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$NAME`, `${NAME}` and `${NAME:-default}` (nested too); `$$` is a dollar sign.

    Raises InterpolationError for anything else that begins with a dollar sign: Compose knows more forms, we use these.
    """
    return "".join(_pieces(text, variables))


def uses_in(text: str) -> list[Use]:
    """The uses in one text, those within a default after the one that holds them."""
    found: list[Use] = []
    interpolate(text, _Recorder(found))
    return found


class _Recorder(dict[str, str]):
    """Variables that are all unset; notes who asks for them."""

    def __init__(self, found: list[Use], nested: bool = False) -> None:
        self.found = found
        self.nested = nested


def _pieces(text: str, variables: Mapping[str, str]) -> Iterator[str]:
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        yield text[at:dollar]
        if text.startswith("$$", dollar):
            yield "$"
            at = dollar + 2
            continue
        braced = text.startswith("${", dollar)
        name = _NAME.match(text, dollar + (2 if braced else 1))
        if name is None:
            raise InterpolationError(f"not a variable: {text[dollar : dollar + 40]!r}")
        at, default = name.end(), None
        if braced:
            end = _closing(text, at)
            rest, at = text[at:end], end + 1
            if rest and not rest.startswith(":-"):
                raise InterpolationError(f"only ${{NAME}} and ${{NAME:-default}} are used here: {text!r}")
            default = rest[2:] if rest else None
        if isinstance(variables, _Recorder):
            variables.found.append(Use(name[0], default, variables.nested))
            yield interpolate(default or "", _Recorder(variables.found, nested=True))
        else:
            yield variables.get(name[0], "") or interpolate(default or "", variables)
    yield text[at:]


def _closing(text: str, at: int) -> int:
    depth = 1
    for position in range(at, len(text)):
        if text.startswith("${", position):
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
    raise InterpolationError(f"a brace is not closed: {text!r}")


def _strings(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if not str(key).startswith("x-"):  # what an extension holds counts where it is used
                yield from _strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from _strings(value)
    elif isinstance(node, str):
        yield node


def _map(node: Any, change: Any) -> Any:
    if isinstance(node, dict):
        return {key: _map(value, change) for key, value in node.items()}
    if isinstance(node, list):
        return [_map(value, change) for value in node]
    return change(node) if isinstance(node, str) else node
