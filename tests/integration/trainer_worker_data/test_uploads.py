"""From a local file to the worker: uploaded once by its content, fetched with the worker's own credentials, checked."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.clearml.server import ClearMLServer
from tests.integration.trainer_worker_data.fetching import Fetching, failed, fetched
from trainyard_runtime.clearml import ClearMLClient
from trainyard_schemas.content_address import content_path
from trainyard_schemas.runs import Dataset
from trainyard_schemas.vocabulary import Reason
from trainyard_submitter import uploads
from trainyard_submitter.errors import FileUnusable, NotAllowed, Unavailable
from trainyard_submitter.uploads import Uploaded, upload_file


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "my set.csv"
    path.write_text("x,y\n" + f"{uuid.uuid4().hex},1\n" * 50_000)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_sent_once_whatever_its_name_and_tells_how_far_it_is(
    clearml_server: ClearMLServer, csv: Path, tmp_path: Path
) -> None:
    steps: list[tuple[int, int]] = []
    settings = clearml_server.settings()
    first = upload_file(csv, clearml=settings, on_progress=lambda at, size: steps.append((at, size)))
    size = csv.stat().st_size
    assert first == Uploaded(f"{clearml_server.files}/{content_path(digest(csv))}", digest(csv), size, sent=True)
    assert steps[-1] == (size, size)
    assert len(steps) > 10
    other = tmp_path / "other.csv"
    other.write_bytes(csv.read_bytes())
    steps.clear()
    again = upload_file(other, clearml=settings, on_progress=lambda at, size: steps.append((at, size)))
    assert again == Uploaded(first.uri, first.sha256, size, sent=False)
    assert steps == [(size, size)]


def test_the_worker_fetches_an_upload_and_the_next_time_takes_it_from_its_cache(
    clearml_server: ClearMLServer, csv: Path, fetching: Fetching
) -> None:
    uploaded = upload_file(csv, clearml=clearml_server.settings())
    dataset = Dataset(type="tabular", uri=uploaded.uri, label="y").model_dump()
    found = fetched(fetching.run(clearml_server, dataset))
    assert Path(found.path).read_bytes() == csv.read_bytes()
    assert (found.location, found.sha256, found.size_bytes) == (uploaded.uri, uploaded.sha256, uploaded.size_bytes)

    async def delete(client: ClearMLClient) -> None:
        await client.delete_file(uploaded.uri)

    fetching.clearml(clearml_server, delete)
    assert fetched(fetching.run(clearml_server, dataset)).sha256 == uploaded.sha256
    gone = failed(fetching.fresh().run(clearml_server, dataset))
    assert (gone.reason, gone.detail) == (Reason.DATASET_UNREACHABLE, "file_missing")


def test_bytes_that_are_not_what_the_path_claims_are_refused(
    clearml_server: ClearMLServer, csv: Path, fetching: Fetching
) -> None:
    async def forge(client: ClearMLClient) -> str:
        return await client.upload_file(content_path(digest(csv)), b"x,y\n6,6\n")

    uri = fetching.clearml(clearml_server, forge)
    try:
        refused = failed(fetching.run(clearml_server, {"uri": uri}))
        assert (refused.reason, refused.detail) == (Reason.INVALID_DATASET, "content_differs")
        assert upload_file(csv, clearml=clearml_server.settings()).sent, "another size under the path: sent over it"
        assert fetched(fetching.run(clearml_server, {"uri": uri})).sha256 == digest(csv)
    finally:
        fetching.clearml(clearml_server, lambda client: client.delete_file(uri))


def test_a_file_server_under_another_name_is_the_same_file_server(
    clearml_server: ClearMLServer, csv: Path, fetching: Fetching
) -> None:
    uploaded = upload_file(csv, clearml=clearml_server.settings())
    uri = uploaded.uri.replace(clearml_server.files, "http://files.internal:8081")
    unknown = failed(fetching.run(clearml_server, {"uri": uri}, resolve={"files.internal": ["10.0.0.9"]}))
    assert unknown.detail == "address_not_allowed"
    known = fetching.run(clearml_server, {"uri": uri}, files_aliases="http://files.internal:8081")
    assert fetched(known).sha256 == uploaded.sha256


def test_a_file_that_grows_while_it_is_sent_is_sent_as_it_was(
    clearml_server: ClearMLServer, csv: Path, fetching: Fetching
) -> None:
    sha256, size = digest(csv), csv.stat().st_size

    def grow(at: int, _: int) -> None:
        if at < size:
            with csv.open("a") as more:
                more.write("1,1\n")

    uploaded = upload_file(csv, clearml=clearml_server.settings(), on_progress=grow)
    assert (uploaded.sha256, uploaded.size_bytes) == (sha256, size)
    assert fetched(fetching.run(clearml_server, {"uri": uploaded.uri})).size_bytes == size


def test_a_file_that_changes_while_it_is_sent_leaves_nothing_under_its_old_hash(
    clearml_server: ClearMLServer, csv: Path, fetching: Fetching
) -> None:
    sha256, size = digest(csv), csv.stat().st_size

    def change(at: int, _: int) -> None:
        with csv.open("r+b") as file:
            file.seek(size - 2)
            file.write(b"2")

    with pytest.raises(FileUnusable, match="changed while it was sent"):
        upload_file(csv, clearml=clearml_server.settings(), on_progress=change)
    left = fetching.clearml(clearml_server, lambda client: client.file_size(content_path(sha256)))
    assert left is None


def test_a_file_that_shrinks_while_it_is_sent_is_named(clearml_server: ClearMLServer, csv: Path) -> None:
    def shrink(_: int, __: int) -> None:
        csv.write_text("x")

    with pytest.raises(FileUnusable, match="shorter"):
        upload_file(csv, clearml=clearml_server.settings(), on_progress=shrink)


def test_what_cannot_be_uploaded_is_answered_by_its_kind(
    clearml_server: ClearMLServer, csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = clearml_server.settings()
    with pytest.raises(FileUnusable, match="cannot be read"):
        upload_file(tmp_path / "none.csv", clearml=good)
    with pytest.raises(FileUnusable):
        upload_file(tmp_path, clearml=good)
    with pytest.raises(NotAllowed, match="CLEARML_API_ACCESS_KEY") as refused:
        upload_file(csv, clearml=clearml_server.settings(secret_key="canary-secret"))
    assert "canary" not in str(refused.value)
    monkeypatch.setattr(uploads, "BACKOFF_S", (0.0, 0.0))
    with pytest.raises(Unavailable, match="CLEARML_FILES_HOST"):
        upload_file(csv, clearml=clearml_server.settings(files_host="http://127.0.0.1:9"))


def test_an_upload_works_inside_an_event_loop(clearml_server: ClearMLServer, csv: Path) -> None:
    async def act() -> Any:
        async with ClearMLClient(clearml_server.settings()) as client:
            return await asyncio.gather(*(uploads.upload(client, csv) for _ in range(3)))

    assert {uploaded.sha256 for uploaded in asyncio.run(act())} == {digest(csv)}
