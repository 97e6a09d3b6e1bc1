"""How calls travel: paths, methods, bodies, envelopes."""

from __future__ import annotations

import pytest

from tests.behaviour.clearml.raw import Made, Raw


def authorised(raw: Raw) -> dict[str, str]:
    return {"Authorization": f"Bearer {raw.token}"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_call_is_answered_whatever_its_method(raw: Raw, method: str) -> None:
    answer = raw.call("queues.get_default", method=method, headers=authorised(raw))
    assert answer.code == (200, 0)
    assert answer.data["name"]


@pytest.mark.parametrize("path", ["queues.get_default", "v2.20/queues.get_default", "v2.34/queues.get_default"])
def test_a_path_may_name_a_version(raw: Raw, path: str) -> None:
    assert raw.call(path, headers=authorised(raw)).code == (200, 0)


def test_the_sdk_s_get_with_a_body_is_understood(raw: Raw, made: Made) -> None:
    task = made.task()
    answer = raw.call("tasks.get_by_id", {"task": task}, method="GET", headers=authorised(raw))
    assert answer.data["task"]["id"] == task


def test_query_parameters_work_too(raw: Raw, made: Made) -> None:
    task = made.task()
    answer = raw.call(f"tasks.get_by_id?task={task}", method="GET", headers=authorised(raw), content=b"")
    assert answer.data["task"]["id"] == task


def test_every_answer_is_an_envelope_with_the_http_status_in_it(raw: Raw) -> None:
    good, bad = raw("queues.get_default"), raw("tasks.get_by_id", task="f" * 32)
    for answer, message in ((good, "OK"), (bad, None)):
        meta = answer.meta
        assert meta["id"]
        assert meta["trx"]
        assert meta["endpoint"].keys() == {"name", "requested_version", "actual_version"}
        assert meta["result_code"] == answer.http_status
        assert meta["error_stack"] is None
        assert message is None or meta["result_msg"] == message
    assert (good.http_status, bad.http_status) == (200, 400)
    assert bad.meta["endpoint"]["name"] == "tasks.get_by_id"


def test_unknown_fields_are_ignored(raw: Raw) -> None:
    assert raw("queues.get_default", no_such_field=1, another={"a": []}).code == (200, 0)


@pytest.mark.parametrize("path", ["nobody.get_all", "tasks.fly_to_the_moon", "v2.20/nobody.knows"])
def test_an_unknown_service_or_action_is_404_with_subcode_0(raw: Raw, path: str) -> None:
    assert raw.call(path, headers=authorised(raw)).code == (404, 0)


def test_a_malformed_path_is_400(raw: Raw) -> None:
    assert raw.call("notacall", headers=authorised(raw)).http_status == 400


def test_ping_is_answered(raw: Raw) -> None:
    assert raw("debug.ping").code == (200, 0)
