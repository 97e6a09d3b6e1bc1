"""What a request's dataset means, and which file of a ClearML dataset."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from trainyard_schemas.content_address import claimed_sha256, content_path
from trainyard_schemas.runs import Dataset
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.data.addresses import web_address
from trainyard_trainer_worker.data.manifest import LinkedFile, StoredFile, choose, entries_of
from trainyard_trainer_worker.data.plan import ClearMLRef, InBucket, OnFileServer, OnWeb, plan
from trainyard_trainer_worker.spec import AttemptError, Detail

FILES = (web_address("http://127.0.0.1:8081/"), web_address("https://clearml.example/files"))
SHA = hashlib.sha256(b"x,y\n1,2\n").hexdigest()


def dataset(**fields: Any) -> dict[str, Any]:
    return Dataset.model_validate({"type": "tabular", "label": "y", **fields}).model_dump(mode="json")


@pytest.mark.parametrize("uri", ["examples/wine.csv", "/data/wine.csv", "file:///data/wine.csv", "file:wine.csv"])
def test_a_local_path_is_left_to_the_child(uri: str) -> None:
    assert plan(dataset(uri=uri), FILES) is None


def test_a_dataset_ref_is_left_to_the_child() -> None:
    assert plan({"type": "tabular", "label": "y", "uri": None, "clearml": None}, FILES) is None


def test_an_upload_is_recognised_by_its_path_at_each_address_of_the_file_server() -> None:
    path = content_path(SHA)
    assert claimed_sha256(path) == SHA
    for uri in (f"http://127.0.0.1:8081/{path}", f"https://clearml.example/files/{path}"):
        assert plan(dataset(uri=uri), FILES) == OnFileServer(path, SHA, uri)


def test_another_file_of_the_file_server_claims_no_hash() -> None:
    uri = "http://127.0.0.1:8081/project/task.1/artifacts/a%20b.csv"
    assert plan(dataset(uri=uri), FILES) == OnFileServer("project/task.1/artifacts/a b.csv", None, uri)


@pytest.mark.parametrize(
    "uri",
    [
        *("http://127.0.0.1:8082/a.csv", "https://127.0.0.1:8081/a.csv", "http://localhost:8081/a.csv"),
        *("https://clearml.example/other/a.csv", "https://clearml.example/filesystem/a.csv"),
    ],
)
def test_what_is_not_exactly_the_file_server_gets_no_credentials(uri: str) -> None:
    assert isinstance(plan(dataset(uri=uri), FILES), OnWeb)


def test_an_ipv6_host_is_no_chain_of_file_systems() -> None:
    found = plan(dataset(uri="https://[2606:4700:4700::1111]/a.csv"), FILES)
    assert isinstance(found, OnWeb)
    with pytest.raises(ValueError, match="chains"):
        dataset(uri="https://[2606:4700:4700::1111]/a::b")


def test_a_path_that_leaves_the_file_server_is_refused() -> None:
    with pytest.raises(AttemptError) as refused:
        plan(dataset(uri="https://clearml.example/files/../secret.csv"), FILES)
    assert refused.value.detail == Detail.PATH_NOT_ALLOWED


def test_s3_names_a_bucket_and_a_key() -> None:
    assert plan(dataset(uri="s3://my-bucket/sets/a%20b.csv"), FILES) == InBucket("my-bucket", "sets/a b.csv")


@pytest.mark.parametrize(
    "uri",
    [
        *("s3://my-bucket", "s3://my-bucket/", "s3://my-bucket/folder/", "s3://ab/x.csv", "s3://My_Bucket/x.csv"),
        *("s3://bucket:9000/x.csv", "s3://a..b/x.csv", "s3://my-bucket/a/../x.csv", "s3://my-bucket/x.csv?versionId=1"),
        *("s3://[::1]/x.csv",),
    ],
)
def test_what_names_no_object_is_refused(uri: str) -> None:
    with pytest.raises(AttemptError) as refused:
        plan({"uri": uri}, FILES)
    assert refused.value.reason in (Reason.INVALID_DATASET, Reason.INVALID_REQUEST)


@pytest.mark.parametrize(
    "uri",
    [
        *("https://user:hunter2@data.example/a.csv", "https://data.example/a.csv?X-Amz-Signature=hunter2"),
        *(
            "https://data.example/a.csv?sig=hunter2",
            "s3://key:hunter2@bucket/a.csv",
            "zip://hunter2.csv::https://a.b/c",
        ),
        *("filecache::s3://hunter2/a", "github://hunter2:x@y/z", "simplecache::hunter2", "gs://hunter2/a.csv"),
        *("ftp://hunter2/a", "data:text/csv,hunter2", "https://127.1/hunter2", "https://[hunter2/"),
    ],
)
def test_an_unsafe_form_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(AttemptError) as refused:
        plan({"uri": uri}, FILES)
    assert refused.value.message.startswith("dataset.uri ")
    assert "hunter2" not in refused.value.message


def test_a_clearml_dataset_is_named_by_id_or_by_the_other_three() -> None:
    assert plan(dataset(clearml={"id": "abc"}), FILES) == ClearMLRef(id="abc")
    by_name = dataset(clearml={"name": "wine", "project": "sets", "version": "1.0.0"}, path="a.csv")
    assert plan(by_name, FILES) == ClearMLRef(name="wine", project="sets", version="1.0.0", path="a.csv")


STATE: dict[str, Any] = {
    "dataset_file_entries": [
        {"relative_path": "a/train.csv", "hash": SHA, "parent_dataset_id": "p", "artifact_name": "data_001", "size": 8},
        {"relative_path": "readme.md", "hash": None, "parent_dataset_id": "d", "size": 2},
    ],
    "dataset_link_entries": [{"relative_path": "far.csv", "link": "https://data.example/far.csv"}],
}


def test_the_sdks_state_is_read() -> None:
    assert entries_of(STATE, "d") == [
        StoredFile("a/train.csv", "p", "data_001", SHA, 8),
        StoredFile("readme.md", "d", "data", None, 2),
        LinkedFile("far.csv", "https://data.example/far.csv"),
    ]


@pytest.mark.parametrize(
    "state",
    [
        *(None, [], 1, "x", {"dataset_file_entries": {"a": 1}}, {"dataset_file_entries": [1]}),
        *({"dataset_file_entries": [{}]}, {"dataset_file_entries": [{"relative_path": 1}]}),
        *({"dataset_link_entries": [{"relative_path": "a"}]}, {"dataset_link_entries": [None]}),
    ],
)
def test_a_state_that_is_not_the_sdks_is_refused(state: object) -> None:
    with pytest.raises(AttemptError) as refused:
        entries_of(state, "d")
    assert refused.value.detail == Detail.ARCHIVE_UNSAFE


def test_the_file_is_the_named_one_or_the_only_csv() -> None:
    entries = entries_of(STATE, "d")
    assert choose(entries, "readme.md", "d").path == "readme.md"
    assert choose(entries, "./a/train.csv", "d").path == "a/train.csv"
    assert choose(entries[:2], None, "d").path == "a/train.csv"


def test_several_csv_files_without_a_path_are_ambiguous_and_listed() -> None:
    with pytest.raises(AttemptError) as refused:
        choose(entries_of(STATE, "d"), None, "d")
    assert (refused.value.reason, refused.value.detail) == (Reason.INVALID_DATASET, Detail.DATASET_AMBIGUOUS)
    assert "'a/train.csv', 'far.csv'" in refused.value.message
    assert "dataset.path" in refused.value.message


@pytest.mark.parametrize(("path", "said"), [("b.csv", "'a/train.csv'"), ("../a/train.csv", "'far.csv'")])
def test_a_path_that_is_not_there_is_answered_with_what_is(path: str, said: str) -> None:
    with pytest.raises(AttemptError) as refused:
        choose(entries_of(STATE, "d"), path, "d")
    assert refused.value.detail == Detail.FILE_MISSING
    assert said in refused.value.message


def test_a_dataset_without_csv_says_so() -> None:
    with pytest.raises(AttemptError, match=r"no \.csv file among its 1 files"):
        choose(entries_of(STATE, "d")[1:2], None, "d")
