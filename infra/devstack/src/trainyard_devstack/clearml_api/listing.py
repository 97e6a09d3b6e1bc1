"""`get_all` of any kind of document: filter, order, page or scroll, project."""

from __future__ import annotations

from typing import Any, Final

from trainyard_devstack.clearml_api import query
from trainyard_devstack.clearml_api.call import Call, new_id
from trainyard_devstack.clearml_api.errors import bad_field
from trainyard_devstack.clearml_api.store import INDEXED

COMMON: Final = "id name company user created tags system_tags comment last_update last_change metadata "

FIELDS: Final = {
    kind: frozenset((COMMON + own).split())
    for kind, own in {
        "task": "type status status_reason status_message status_changed project parent execution script hyperparams "
        "configuration container runtime models input output output_dest started completed published active_duration "
        "last_iteration last_metrics last_changed_by last_worker last_worker_report enqueue_status unique_metrics",
        "queue": "entries display_name workers",
        "model": "project task parent uri framework design labels ready ui_cache stats",
        "project": "basename description parent default_output_destination stats sub_projects",
    }.items()
}
"""Top-level fields by kind: what `only_fields` and `order_by` may name and what filters may use."""

SCROLLS_KEPT: Final = 200


def listing(call: Call, kind: str) -> tuple[list[dict[str, Any]], str | None]:
    """The documents of one page, whole, and the scroll's id if the request scrolls.

    A request scrolls if it has a `scroll_id` (null for the first page) or a `size`. Errors: 400/12, 400/14.
    """
    body, fields, scrolls_open = call.body, FIELDS[kind], call.store.scrolls
    query.check_fields(call.items("only_fields"), fields)
    scrolls = "scroll_id" in body or "size" in body
    scroll_id = body.get("scroll_id")
    if scrolls and scroll_id is not None:
        if scroll_id not in scrolls_open:
            raise bad_field("scroll_id", "unknown or expired")
        ids = scrolls_open[scroll_id]
        scrolls_open.move_to_end(scroll_id)
    else:
        filters = query.filters_of(body, fields)
        found = call.store.candidates(kind, query.narrowing(filters, INDEXED[kind]))
        docs = [doc for doc in found if query.matches(doc, body, filters)]
        if call.items("order_by"):
            docs = query.ordered(docs, call.items("order_by"), fields)
        if not scrolls:
            page = query.page_of([doc["id"] for doc in docs], call.number("page", 0), call.number("page_size", 500))
            by_id = {doc["id"]: doc for doc in docs}
            return [by_id[doc_id] for doc_id in page], None
        scroll_id, ids = new_id(), [doc["id"] for doc in docs]
        scrolls_open[scroll_id] = ids
        while len(scrolls_open) > SCROLLS_KEPT:
            scrolls_open.popitem(last=False)
    size = min(max(call.number("size", query.PAGE_SIZE), 1), query.PAGE_SIZE)
    page, scrolls_open[scroll_id] = ids[:size], ids[size:]
    found_docs = (call.store.get(kind, doc_id) for doc_id in page)
    return [doc for doc in found_docs if doc is not None], scroll_id


def answer(call: Call, name: str, docs: list[dict[str, Any]], scroll_id: str | None) -> dict[str, Any]:
    """The answer of a `get_all`, with only the fields asked for."""
    only = call.items("only_fields")
    shown = [query.project(doc, only) for doc in docs] if only else docs
    return {name: shown} if scroll_id is None else {name: shown, "scroll_id": scroll_id}
