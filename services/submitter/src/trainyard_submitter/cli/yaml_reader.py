"""YAML as strictly as JSON: one document, no duplicate keys, no tags, no anchors, and only JSON's kinds of values.

The one module that imports PyYAML. YAML 1.1 would read the key `on` as true, `1:30` as 90 and a date as a date; here
only `true`, `false`, `null` and numbers as JSON writes them are anything but text (YAML 1.2, core schema).
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from trainyard_schemas.codec import MAX_DEPTH, MAX_VALUES, printable
from trainyard_schemas.errors import ContractError, FieldError, Malformed

if TYPE_CHECKING:
    _Loader = yaml.SafeLoader
else:
    _Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a PyYAML built without libyaml has only the slow one

# libyaml reads this in 50 ms, PyYAML's own parser in 1 s; a request written by hand has 1 KiB.
MAX_YAML_BYTES = 64 * 1024

_TAGS = {kind: f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "map", "seq", "str")}


class _StrictLoader(_Loader):
    """SafeLoader with YAML 1.2's core schema and without duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != _TAGS["str"]:
                _refuse("not_json", f"{_where(key)} is a key that is not text; put it in quotes")
            if key.value in seen:
                _refuse("duplicate_key", "this key stands twice in one mapping; keep one", printable(key.value))
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def construct_finite(self, node: yaml.ScalarNode) -> float:
        value = float(node.value)
        if not math.isfinite(value):
            _refuse("number_out_of_range", "a number is beyond what a 64-bit float can hold; send a smaller one")
        return value


_StrictLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    (_TAGS["bool"], r"^(?:true|false)$", "tf"),
    (_TAGS["null"], r"^(?:null|~|)$", ["n", "~", ""]),
    (_TAGS["int"], r"^-?(?:0|[1-9][0-9]{0,18})$", "-0123456789"),
    (_TAGS["float"], r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)$", "-0123456789"),
):
    _StrictLoader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))
_StrictLoader.add_constructor(_TAGS["float"], _StrictLoader.construct_finite)


def decode_yaml(text: str) -> Any:
    """The one document in `text`, made of dict, list, str, int, float, bool and None.

    Raises:
        Malformed: for everything that the module's docstring refuses.
    """
    if len(text.encode()) > MAX_YAML_BYTES:
        _refuse("too_large", f"the YAML is larger than {MAX_YAML_BYTES:,} bytes; send it as JSON")
    try:
        _check(text)
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader, made stricter
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        if "nesting depth" in problem:  # PyYAML's own limit, since 6.0.4
            _refuse("too_deep", f"the document nests deeper than {MAX_DEPTH} levels")
        _refuse("not_yaml", f"the document is not YAML: {printable(problem, 120)}{where}")
    except ContractError:
        raise
    except ValueError as error:
        _refuse("not_yaml", f"the document holds a value that cannot be read: {printable(error, 120)}")


def _check(text: str) -> None:
    """Walk the events, which needs no recursion, before anything is built."""
    documents = depth = values = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                _refuse("trailing_bytes", f"a second document begins {_where(event)}; send one document")
        elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            _refuse("anchor", f"an anchor or alias stands {_where(event)}; write the value out")
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            if event.tag is not None:
                _refuse("tag", f"a tag stands {_where(event)}; remove it")
            values += 1
            if values > 2 * MAX_VALUES:
                _refuse("too_many_values", f"the document holds more than {MAX_VALUES:,} values")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    _refuse("too_deep", f"the document nests deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _where(marked: Any) -> str:
    return f"at line {marked.start_mark.line + 1}, column {marked.start_mark.column + 1}"


def _refuse(detail: str, message: str, path: str = "") -> NoReturn:
    raise Malformed(detail, FieldError(path, message))
