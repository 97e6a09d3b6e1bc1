"""Which documents a `get_all` means and how much of each it shows: pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from trainyard_devstack.clearml_api.errors import ApiError, bad_field

PAGE_SIZE: Final = 500

CONTROL: Final = frozenset(
    {"page", "page_size", "size", "scroll_id", "refresh_scroll", "order_by", "only_fields", "search_hidden"}
    | {"search_text", "_all_", "_any_", "name", "tags", "system_tags", "include_subprojects", "max_task_entries"}
)
"""Keys of a request that are no plain equality filters."""

RANGE: Final = re.compile(r"^(>=|<=|>|<)(.+)$")


def value_at(doc: Any, path: str) -> Any:
    """What a dotted path names, or None; keys may hold dots themselves (`hyperparams.Args.a.b$c.value`)."""
    if isinstance(doc, Mapping):
        if path in doc:
            return doc[path]
        parts = path.split(".")
        for count in range(1, len(parts)):
            head = ".".join(parts[:count])
            if head in doc:
                found = value_at(doc[head], ".".join(parts[count:]))
                if found is not None:
                    return found
    return None


def filters_of(body: Mapping[str, Any], fields: Iterable[str]) -> dict[str, list[Any]]:
    """The equality filters of a request, each as the list of values allowed; empty lists are no filter."""
    known = set(fields)
    found: dict[str, list[Any]] = {}
    for key, value in body.items():
        if key in CONTROL or value is None or key.split(".", 1)[0] not in known:
            continue
        values = value if isinstance(value, list) else [value]
        if values:
            found[key] = values
    return found


def narrowing(filters: Mapping[str, Sequence[Any]], indexed: Iterable[str]) -> dict[str, list[str]]:
    """The part of the filters that the index can answer."""
    usable = {"id", *indexed}
    return {
        key: [str(value) for value in values]
        for key, values in filters.items()
        if (key in usable or key.startswith("runtime.") or (key.startswith("hyperparams.") and key.endswith(".value")))
        and not any(isinstance(value, str) and RANGE.match(value) for value in values)
    }


def matches(doc: Mapping[str, Any], body: Mapping[str, Any], filters: Mapping[str, Sequence[Any]]) -> bool:
    """Whether a document passes every filter of the request."""
    name = body.get("name")
    if isinstance(name, str) and not _search(name, doc.get("name"), "name"):
        return False
    text = body.get("search_text")
    if isinstance(text, str) and not any(text in str(doc.get(field) or "") for field in ("id", "name", "comment")):
        return False
    if not all(tags_match(doc.get(field) or (), body.get(field) or ()) for field in ("tags", "system_tags")):
        return False
    for mode, combine in (("_all_", all), ("_any_", any)):
        wanted = body.get(mode)
        if isinstance(wanted, Mapping) and wanted.get("fields") and isinstance(wanted.get("pattern"), str):
            hits = (_search(wanted["pattern"], value_at(doc, field), mode) for field in wanted["fields"])
            if not combine(hits):
                return False
    return all(_allowed(value_at(doc, key), values) for key, values in filters.items())


def tags_match(tags: Sequence[str], wanted: Sequence[str]) -> bool:
    """ClearML's tag expression: a plain list is any of them, `-tag` excludes, `__$all`, `__$or`, `__$and`, `__$not`."""
    if isinstance(wanted, str):
        wanted = [wanted]
    if not any(str(item).startswith("__$") for item in wanted):
        positive = [item for item in wanted if item and not item.startswith("-")]
        negative = [item[1:] for item in wanted if item and item.startswith("-")]
        return (not positive or any(tag in tags for tag in positive)) and not any(tag in tags for tag in negative)
    outer_all = wanted[0] in ("__$all", "__$and")
    groups: list[tuple[bool, list[bool]]] = [(outer_all, [])]
    negate = False
    for item in wanted:
        if item == "__$all":
            continue
        if item in ("__$or", "__$and"):
            groups.append((item == "__$and", []))
        elif item == "__$not":
            negate = True
        else:
            excluded = negate or item.startswith("-")
            groups[-1][1].append((item.lstrip("-") in tags) != excluded)
            negate = False
    verdicts = [(all if conjunction else any)(hits) for conjunction, hits in groups if hits]
    return (all if outer_all else any)(verdicts)


def ordered(docs: list[dict[str, Any]], order_by: Sequence[str], fields: Iterable[str]) -> list[dict[str, Any]]:
    """Sorted by ClearML's `order_by` (`-name` descends), missing values last. Errors: 400/14."""
    check_fields([name.lstrip("-+") for name in order_by], fields)
    for name in reversed(order_by):
        path = name.lstrip("-+")
        present = [doc for doc in docs if value_at(doc, path) is not None]
        absent = [doc for doc in docs if value_at(doc, path) is None]
        numeric = all(isinstance(value_at(doc, path), int | float) for doc in present)
        present.sort(
            key=lambda doc: value_at(doc, path) if numeric else str(value_at(doc, path)),
            reverse=name.startswith("-"),
        )
        docs = present + absent
    return docs


def project(doc: Mapping[str, Any], only_fields: Sequence[str]) -> dict[str, Any]:
    """The `id` and the named fields, nested as they are in the document."""
    shown: dict[str, Any] = {"id": doc["id"]} if "id" in doc else {}
    for path in only_fields:
        _copy(doc, path.split("."), shown)
    return shown


def check_fields(names: Iterable[str], fields: Iterable[str]) -> None:
    """Errors: 400/14 for a name whose first part is no field."""
    known = set(fields)
    for name in names:
        if not isinstance(name, str) or name.split(".", 1)[0] not in known:
            raise ApiError(400, 14, f"Invalid fields: {name}")


def page_of(ids: Sequence[str], page: int, page_size: int) -> Sequence[str]:
    """One page, of at most `PAGE_SIZE`."""
    size = min(max(page_size, 1), PAGE_SIZE)
    return ids[max(page, 0) * size : (max(page, 0) + 1) * size]


def _copy(source: Any, parts: list[str], target: dict[str, Any]) -> None:
    if not isinstance(source, Mapping):
        return
    for count in range(len(parts), 0, -1):
        head = ".".join(parts[:count])
        if head not in source:
            continue
        if count == len(parts):
            target[head] = source[head]
        else:
            nested = target.setdefault(head, {})
            if isinstance(nested, dict):
                _copy(source[head], parts[count:], nested)
        return


def _search(pattern: str, value: Any, field: str) -> bool:
    try:
        return value is not None and re.search(pattern, str(value)) is not None
    except re.error as problem:
        raise bad_field(field, f"not a regular expression: {problem}") from None


def _allowed(value: Any, wanted: Sequence[Any]) -> bool:
    ranges = [RANGE.match(item) for item in wanted if isinstance(item, str)]
    if ranges and all(ranges):
        return value is not None and all(_in_range(str(value), found[1], found[2]) for found in ranges if found)
    if isinstance(value, list):
        return any(item in wanted for item in value)
    return value in wanted or (value is not None and not isinstance(value, str) and str(value) in wanted)


def _in_range(value: str, operator: str, bound: str) -> bool:
    match operator:
        case ">=":
            return value >= bound
        case "<=":
            return value <= bound
        case ">":
            return value > bound
        case _:
            return value < bound
