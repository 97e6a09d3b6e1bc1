"""Dockerfiles as instructions: enough of the format for ours, and no more."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, its lines joined; `line` is where it begins."""

    line: int
    word: str
    rest: str

    def exec_form(self) -> list[str] | None:
        """The arguments of a JSON list, None for shell form."""
        text = self.rest[self.rest.find("[") :] if "[" in self.rest else ""
        try:
            found = json.loads(text)
        except ValueError:
            return None
        return [str(part) for part in found]

    def copied(self) -> tuple[str | None, list[str], str]:
        """Of a COPY: the stage it copies from, the sources and the target."""
        words = shlex.split(self.rest)
        flags = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
        paths = [word for word in words if not word.startswith("--")]
        return flags.get("from"), paths[:-1], paths[-1]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: its base with the arguments filled in, its name, its instructions."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, word: str) -> list[Instruction]:
        """The instructions of one kind."""
        return [instruction for instruction in self.instructions if instruction.word == word]


def parse(text: str, arguments: Mapping[str, str] | None = None) -> list[Stage]:
    """The stages, with the defaults of ARG and `arguments` above them filled in wherever they are used."""
    values: dict[str, str] = {}
    stages: list[Stage] = []
    for instruction in _instructions(text):
        if instruction.word == "ARG":
            name, given, default = instruction.rest.partition("=")
            if given:
                values.setdefault(name, default.strip('"'))
            values.update({name: (arguments or {})[name]} if name in (arguments or {}) else {})
        filled = Instruction(instruction.line, instruction.word, _fill(instruction.rest, values))
        if instruction.word == "FROM":
            base, _, name = filled.rest.partition(" AS ")
            stages.append(Stage(base.strip(), name.strip()))
        elif stages:
            stages[-1].instructions.append(filled)
    return stages


def ignored(dockerignore: str, path: str) -> bool:
    """Whether a path of the checkout is left out of the build; the last pattern that fits decides."""
    out = False
    for line in dockerignore.splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#") and _fits(path, pattern.removeprefix("!")):
            out = not pattern.startswith("!")
    return out


def _fits(path: str, pattern: str) -> bool:
    places = [PurePosixPath(path), *PurePosixPath(path).parents]
    if pattern.startswith("**/"):
        return any(place.match(pattern[3:]) for place in places if place.name)
    return any(len(place.parts) == pattern.count("/") + 1 and place.match(pattern) for place in places if place.name)


def _fill(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda found: values.get(found[1], found[0]), text)


def _instructions(text: str) -> list[Instruction]:
    found: list[Instruction] = []
    joined, begun = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        begun = begun or number
        joined += line.rstrip().removesuffix("\\").strip() + " "
        if not line.rstrip().endswith("\\"):
            word, _, rest = joined.strip().partition(" ")
            found.append(Instruction(begun, word, rest.strip()))
            joined, begun = "", 0
    return found
