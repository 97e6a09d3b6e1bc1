"""The unchanged SDK's datasets work, and the worker reads them without the SDK."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.clearml.raw import Made, Raw
from tests.behaviour.clearml.server import ClearMLServer
from tests.behaviour.clearml.test_sdk import remove_named, sdk
from tests.integration.trainer_worker_data.conftest import fetching
from tests.integration.trainer_worker_data.fetching import Fetching, failed, fetched
from tests.integration.trainer_worker_data.web_server import Answer, web_server
from trainyard_runtime.clearml import ClearMLClient
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import Detail

__all__ = ["fetching"]  # a fixture of the worker's tests

FIRST, SECOND, THIRD = "x,y\n1,2\n", "x,y\n3,4\n", "x,y\n5,6\n"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def by_name(name: str, version: str) -> dict[str, Any]:
    return {"clearml": {"id": None, "name": name, "project": name, "version": version}}


@pytest.mark.slow
def test_datasets_of_the_sdk_are_what_the_sdk_and_the_worker_read(
    clearml_server: ClearMLServer, raw: Raw, made: Made, tmp_path: Path, fetching: Fetching
) -> None:
    name = made.name("dataset").replace(" ", "-")
    answer = sdk(clearml_server, tmp_path, "dataset", name)
    remove_named(raw, made, name)
    first, second, third = answer["ids"]
    assert answer["versions"] == ["1.0.0", "1.0.1", "1.0.2"]
    assert answer["files"] == [["a/train.csv"], ["a/train.csv", "more.csv"], ["a/train.csv", "more.csv"]]
    assert answer["copies"] == [
        {"a/train.csv": FIRST},
        {"a/train.csv": FIRST, "more.csv": SECOND},
        {"a/train.csv": THIRD, "more.csv": SECOND},
    ]
    assert (answer["by_name"], answer["latest"]) == (second, "1.0.2")
    assert sorted(answer["listed"]) == sorted(answer["ids"])
    assert answer["parents"][second] == [first]

    found = fetched(fetching.run(clearml_server, {"clearml": {"id": first}}))
    assert Path(found.path).read_text() == FIRST
    assert (found.dataset_id, found.location) == (first, f"clearml://{first}/a/train.csv")
    assert (found.sha256, found.size_bytes) == (sha256(FIRST.encode()), len(FIRST))

    for version, path, text, resolved in (
        ("1.0.0", None, FIRST, first),
        ("1.0.1", "a/train.csv", FIRST, second),  # from the parent's archive
        ("1.0.1", "more.csv", SECOND, second),
        ("1.0.2", "a/train.csv", THIRD, third),
        ("1.0.2", "more.csv", SECOND, third),
    ):
        again = fetched(fetching.fresh().run(clearml_server, {**by_name(name, version), "path": path}))
        assert (Path(again.path).read_text(), again.dataset_id) == (text, resolved), (version, path)

    ambiguous = failed(fetching.run(clearml_server, {"clearml": {"id": third}}))
    assert (ambiguous.reason, ambiguous.detail) == (Reason.INVALID_DATASET, Detail.DATASET_AMBIGUOUS)
    assert "'a/train.csv', 'more.csv'" in ambiguous.message
    missing = failed(fetching.run(clearml_server, {"clearml": {"id": third}, "path": "none.csv"}))
    assert (missing.detail, "'more.csv'" in missing.message) == (Detail.FILE_MISSING, True)
    unknown = failed(fetching.run(clearml_server, by_name(name, "2.0.0")))
    assert (unknown.reason, unknown.detail) == (Reason.DATASET_UNREACHABLE, Detail.DATASET_MISSING)
    assert "'1.0.0', '1.0.1', '1.0.2'" in unknown.message
    unfinished = failed(fetching.run(clearml_server, {"clearml": {"id": answer["open"]}}))
    assert (unfinished.detail, "finalize" in unfinished.message) == (Detail.DATASET_NOT_FINAL, True)
    assert failed(fetching.run(clearml_server, by_name(name, "9.9.9"))).detail == Detail.DATASET_NOT_FINAL


def test_a_dataset_that_is_not_there_and_a_task_that_is_none_are_told_apart(
    clearml_server: ClearMLServer, made: Made, fetching: Fetching
) -> None:
    nobody = failed(fetching.run(clearml_server, by_name(made.name(), "1.0.0")))
    assert (nobody.detail, "check dataset.clearml.name" in nobody.message) == (Detail.DATASET_MISSING, True)
    nothing = failed(fetching.run(clearml_server, {"clearml": {"id": "0" * 32}}))
    assert nothing.detail == Detail.DATASET_MISSING
    task = failed(fetching.run(clearml_server, {"clearml": {"id": made.task("completed")}}))
    assert "is no dataset" in task.message


def forged(
    server: ClearMLServer, made: Made, fetching: Fetching, state: object, archive: bytes = b"", **elsewhere: str
) -> str:
    """A finished dataset with this state and archive, or with artifacts that are `elsewhere`; its id."""
    folder = made.name().replace(" ", "/")

    async def upload(client: ClearMLClient) -> dict[str, str]:
        text = state if isinstance(state, bytes) else json.dumps(state).encode()
        return {
            "state": await client.upload_file(f"{folder}/state.json", text),
            "data": await client.upload_file(f"{folder}/data.zip", archive),
        }

    uris = {**fetching.clearml(server, upload), **elsewhere}
    artifacts = [{"key": key, "type": "custom", "uri": uri, "mode": "output"} for key, uri in uris.items()]
    return made.task("completed", system_tags=["dataset"], execution={"artifacts": artifacts})


def entry(path: str, content: bytes | None = None, **more: Any) -> dict[str, Any]:
    digest = None if content is None else sha256(content)
    return {"relative_path": path, "hash": digest, "artifact_name": "data", "size": 1, **more}


def packed(entries: Mapping[str, bytes], mode: int = stat.S_IFREG | 0o644) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return made.getvalue()


@pytest.mark.parametrize(
    ("state", "archive", "detail"),
    [
        (b"", b"", Detail.ARCHIVE_UNSAFE),
        (b"[" * 100_000, b"", Detail.ARCHIVE_UNSAFE),
        ({"dataset_file_entries": [entry("a.csv")]}, b"x,y\n1,2\n", Detail.ARCHIVE_UNSAFE),
        ({"dataset_file_entries": [entry("a.csv")]}, packed({"b.csv": b"x"}), Detail.ARCHIVE_UNSAFE),
        ({"dataset_file_entries": [entry("a.csv", artifact_name="x")]}, packed({"a.csv": b"x"}), Detail.ARCHIVE_UNSAFE),
        ({"dataset_file_entries": [entry("a.csv", b"other")]}, packed({"a.csv": b"x"}), Detail.CONTENT_DIFFERS),
        (
            {"dataset_file_entries": [entry("a.csv")]},
            packed({"a.csv": b"/etc/passwd"}, stat.S_IFLNK | 0o777),
            Detail.ARCHIVE_UNSAFE,
        ),
        ({"dataset_file_entries": [entry("a.csv")]}, packed({"a.csv": bytes(20_000_000)}), Detail.TOO_LARGE),
        ({"dataset_file_entries": [entry("a.csv", parent_dataset_id="0" * 32)]}, b"", Detail.DATASET_MISSING),
        (
            {"dataset_link_entries": [{"relative_path": "a.csv", "link": "file:///etc/passwd"}]},
            b"",
            "remote_not_fetched",
        ),
        (
            {"dataset_link_entries": [{"relative_path": "a.csv", "link": "http://169.254.169.254/latest/"}]},
            b"",
            Detail.ADDRESS_NOT_ALLOWED,
        ),
        (
            {"dataset_link_entries": [{"relative_path": "a.csv", "link": "https://u:canary@a.example/x"}]},
            b"",
            Detail.FIELD_INVALID,
        ),
    ],
)
def test_a_dataset_that_lies_is_refused_and_leaves_nothing(
    state: object,
    archive: bytes,
    detail: str,
    clearml_server: ClearMLServer,
    made: Made,
    fetching: Fetching,
) -> None:
    dataset_id = forged(clearml_server, made, fetching, state, archive)
    refused = failed(fetching.run(clearml_server, {"clearml": {"id": dataset_id}}, max_file_bytes=10_000_000))
    assert refused.detail == detail, refused
    assert dataset_id in refused.message
    assert "canary" not in refused.message
    assert fetching.leftovers == []


def test_a_slip_beside_the_wanted_file_is_never_unpacked(
    clearml_server: ClearMLServer, made: Made, fetching: Fetching
) -> None:
    files = {"../../../slip.csv": b"bad", "/tmp/slip.csv": b"bad", "good.csv": b"x,y\n1,2\n"}
    listing = {"dataset_file_entries": [entry(path, content) for path, content in files.items()]}
    dataset_id = forged(clearml_server, made, fetching, listing, packed(files))
    found = fetched(fetching.run(clearml_server, {"clearml": {"id": dataset_id}, "path": "good.csv"}))
    work = Path(found.path).parent
    assert [path.name for path in fetching.folder.parent.rglob("*slip*")] == []
    assert sorted(path.name for path in work.iterdir()) == ["dataset.csv", "state.json"]


def test_a_link_of_a_dataset_is_fetched_like_any_address(
    clearml_server: ClearMLServer, made: Made, fetching: Fetching
) -> None:
    with web_server() as web:
        web.answers["/far.csv"] = Answer(b"x,y\n7,8\n")
        link = {"relative_path": "far.csv", "link": web.url("/far.csv")}
        dataset_id = forged(clearml_server, made, fetching, {"dataset_link_entries": [link]})
        found = fetching.run(
            clearml_server,
            {"clearml": {"id": dataset_id}},
            resolve={"data.example": ["127.0.0.1"]},
            private_hosts="data.example",
        )
        assert Path(fetched(found).path).read_bytes() == b"x,y\n7,8\n"


def test_an_artifact_elsewhere_gets_no_credentials(
    clearml_server: ClearMLServer, made: Made, fetching: Fetching
) -> None:
    with web_server() as web:
        web.answers["/data.zip"] = Answer(packed({"a.csv": b"x,y\n9,9\n"}))
        listing = {"dataset_file_entries": [entry("a.csv")]}
        dataset_id = forged(clearml_server, made, fetching, listing, data=web.url("/data.zip"))
        found = fetching.run(
            clearml_server,
            {"clearml": {"id": dataset_id}},
            resolve={"data.example": ["127.0.0.1"]},
            private_hosts="data.example",
        )
        assert Path(fetched(found).path).read_bytes() == b"x,y\n9,9\n"
        ((_, headers),) = web.asked
        assert "authorization" not in headers
