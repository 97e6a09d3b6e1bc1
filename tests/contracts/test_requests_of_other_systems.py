"""The payloads that other systems send today, as version 1 and version 2, and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contracts.files import REFUSED, REQUESTS, V1, V2, label, load
from trainyard_schemas.codec import decode_object, encode
from trainyard_schemas.errors import ContractError, Malformed, UnsupportedVersion
from trainyard_schemas.upcasting import parse_request
from trainyard_schemas.vocabulary import Reason


def test_every_payload_is_there_in_both_versions() -> None:
    assert [path.name for path in V1] == [path.name for path in V2]
    assert len(V1) == 15


@pytest.mark.parametrize("path", V1, ids=label)
def test_version_1_upcasts_to_the_version_2_golden(path: Path) -> None:
    old = parse_request(load(path))
    new = parse_request(load(REQUESTS / "v2" / path.name))
    assert old.request == new.request
    assert old.request.digest == new.request.digest
    assert (old.original_version, new.original_version) == (1, 2)
    assert old.warnings == new.warnings


@pytest.mark.parametrize("path", V2, ids=label)
def test_what_was_accepted_is_a_valid_request_again_and_the_same(path: Path) -> None:
    request = parse_request(load(path)).request
    again = parse_request(decode_object(encode(request.to_json()))).request
    assert again == request
    assert again.digest == request.digest


def test_every_payload_asks_for_something_of_its_own() -> None:
    digests = {parse_request(load(path)).request.digest for path in V2}
    assert len(digests) == len(V2)


def test_three_objects_in_one_example_are_refused_whole_and_accepted_one_by_one() -> None:
    text = (REQUESTS / "as-printed" / "three-in-one.json.txt").read_text()
    with pytest.raises(Malformed) as refused:
        decode_object(text.encode())
    assert refused.value.detail == "trailing_bytes"
    decoder, position, versions = json.JSONDecoder(), 0, []
    while position < len(text):
        document, position = decoder.raw_decode(text, position)
        versions.append(parse_request(document).original_version)
        while position < len(text) and text[position].isspace():
            position += 1
    assert versions == [2, 2, 1]


def test_a_time_series_without_a_version_is_version_1_and_its_random_split_is_not_used() -> None:
    parsed = parse_request(load(REQUESTS / "v1" / "autogluon-timeseries.json"))
    assert parsed.original_version == 1
    assert parsed.request.metric == "MASE"
    assert parsed.warnings == ("split: not used by a time series, whose last part in time is held out",)


def test_row_shuffle_with_group_keys_is_accepted_with_a_warning() -> None:
    parsed = parse_request(load(REQUESTS / "v2" / "autogluon-tabular-extras.json"))
    assert parsed.request.split.method == "row_shuffle"
    assert parsed.request.group_key == ("user_id",)
    assert [warning.partition(":")[0] for warning in parsed.warnings] == ["group_key"]


def test_extras_of_ultralytics_are_read_as_those_of_yolo() -> None:
    body = load(REQUESTS / "v2" / "yolo-extras.json")
    canonical = parse_request(body).request
    body["extras"] = {"ultralytics": body["extras"]["yolo"]}
    assert parse_request(body).request == canonical
    assert set(canonical.extras) == {"yolo"}


def test_extras_of_another_trainer_are_a_warning_and_not_an_error() -> None:
    body = load(REQUESTS / "v2" / "flaml-extras.json")
    body["extras"]["autogluon"] = {"mode": "tabular"}
    assert parse_request(body).warnings == ("extras.autogluon: belongs to another trainer than flaml; not used",)


def test_unknown_fields_pass_in_version_1_and_are_kept() -> None:
    body = load(REQUESTS / "v1" / "flaml-default-queue.json") | {"note": {"by": "crm"}}
    parsed = parse_request(body)
    assert parsed.unknown == {"note": {"by": "crm"}}
    assert parsed.warnings == ("note: not a field of a request; kept in unknown, not used",)
    assert parsed.request == parse_request(load(REQUESTS / "v2" / "flaml-default-queue.json")).request


def test_unknown_fields_are_refused_from_version_2_on() -> None:
    with pytest.raises(ContractError, match="note: is not a field of a request"):
        parse_request(load(REQUESTS / "v2" / "flaml-default-queue.json") | {"note": "x"})


def test_defaults_are_applied_and_recorded() -> None:
    request = parse_request(load(REQUESTS / "v2" / "flaml-default-queue.json")).request.to_json()
    assert request["split"] == {"method": "row_shuffle", "test_size": 0.2, "random_seed": 42}
    assert request["metric"] == "accuracy"
    assert request["priority"] == 5
    assert request["retry"] == {"max_attempts": 3, "on": ["worker_lost", "host_shutdown"], "backoff_s": 10.0}


@pytest.mark.parametrize("path", REFUSED, ids=label)
def test_a_wrong_request_is_refused_by_the_name_of_its_field(path: Path) -> None:
    case = load(path)
    with pytest.raises(ContractError) as refused:
        parse_request(case["body"])
    assert [error.path for error in refused.value.errors] == [case["field"]]
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("branch", ["uri", "clearml-id", "clearml-name", "dataset-ref", "yolo"])
def test_each_way_to_name_data_has_three_negative_cases(branch: str) -> None:
    assert len([path for path in REFUSED if path.stem.startswith(branch)]) >= 3


def test_a_version_of_the_future_has_a_reason_of_its_own() -> None:
    with pytest.raises(UnsupportedVersion) as refused:
        parse_request(load(REQUESTS / "invalid" / "version-of-the-future.json")["body"])
    assert refused.value.reason is Reason.UNSUPPORTED_VERSION
