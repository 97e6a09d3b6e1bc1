from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import tracemalloc
from pathlib import Path

import pytest

from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.spec import AttemptError, FetchedData
from trainyard_trainer_worker.training import datasets

GOOD = b"a,b,y\n1,x,0\n2,z,1\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "examples"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "good.csv").write_bytes(GOOD)
    (tmp_path / "secret.csv").write_bytes(GOOD)
    return folder


def failure(uri: str, root: Path, path: str | None = None) -> AttemptError:
    with pytest.raises(AttemptError) as caught:
        datasets.read_raw({"uri": uri, "path": path}, [str(root)])
    return caught.value


@pytest.mark.parametrize(
    "form", ["data/good.csv", "examples/data/good.csv", "{root}/data/good.csv", "file://{root}/data/good.csv"]
)
def test_a_file_under_a_root_is_read_by_any_spelling(root: Path, form: str) -> None:
    raw = datasets.read_raw({"uri": form.format(root=root)}, [str(root)])
    assert raw.content == GOOD
    assert raw.sha256 == hashlib.sha256(GOOD).hexdigest()
    assert raw.location == "data/good.csv"


@pytest.mark.parametrize(
    "uri",
    ["../secret.csv", "data/../../secret.csv", "{up}/secret.csv", "file://{up}/secret.csv", "/etc/passwd",
     "file:///etc/passwd", "file:///{up}/examples/%2e%2e/secret.csv", "link.csv", "linked/secret.csv",
     "file://elsewhere/data/good.csv"],
)  # fmt: skip
def test_a_path_that_leaves_the_roots_is_refused(root: Path, uri: str) -> None:
    (root / "link.csv").symlink_to(root.parent / "secret.csv")
    (root / "linked").symlink_to(root.parent)
    error = failure(uri.format(up=root.parent), root)
    assert (error.reason, error.detail) == (Reason.INVALID_DATASET, "path_not_allowed")


def test_a_link_that_stays_under_the_root_is_followed(root: Path) -> None:
    (root / "link.csv").symlink_to("data/good.csv")
    assert datasets.read_raw({"uri": "link.csv"}, [str(root)]).content == GOOD


def test_a_path_swapped_for_a_link_after_the_check_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def swap_then_open(path: Path, flags: int) -> int:
        (root / "data").rename(root / "old")
        (root / "data").symlink_to(root.parent)
        return real_open(path, flags)

    (root.parent / "good.csv").write_bytes(b"secret")
    monkeypatch.setattr(os, "open", swap_then_open)
    assert failure("data/good.csv", root).detail == "path_not_allowed"


@pytest.mark.parametrize(
    "uri", ["s3://bucket/x.csv", "http://127.0.0.1/x.csv", "https://h/x.csv", "gs://b/x", "zip://a::file://b"]
)
def test_remote_data_is_not_fetched_by_the_training_process(root: Path, uri: str) -> None:
    error = failure(uri, root)
    assert error.reason is Reason.DATASET_UNREACHABLE
    assert "which a training process does not fetch" in error.message


def test_a_clearml_dataset_is_not_fetched_by_the_training_process(root: Path) -> None:
    with pytest.raises(AttemptError) as caught:
        datasets.read_raw({"clearml": {"id": "x"}, "label": "y"}, [str(root)])
    assert caught.value.reason is Reason.DATASET_UNREACHABLE


def test_an_absent_file_is_named(root: Path) -> None:
    error = failure("data/wine.csv", root)
    assert error.detail == "file_missing"
    assert "data/wine.csv" in error.message


def test_a_folder_with_one_csv_is_enough_and_with_two_it_is_ambiguous(root: Path) -> None:
    assert datasets.read_raw({"uri": "data"}, [str(root)]).content == GOOD
    (root / "data" / "more.csv").write_bytes(GOOD)
    error = failure("data", root)
    assert error.detail == "dataset_ambiguous"
    assert "good.csv" in error.message
    assert "more.csv" in error.message
    assert datasets.read_raw({"uri": "data", "path": "more.csv"}, [str(root)]).location == "data/more.csv"


def test_a_path_inside_a_folder_cannot_leave_it(root: Path) -> None:
    assert failure("data", root, path="../../secret.csv").detail == "path_not_allowed"
    assert failure("data", root, path="absent.csv").detail == "file_missing"


@pytest.mark.parametrize(("uri", "path"), [("n" * 4_000, None), ("data", "n" * 1_000)], ids=["uri", "path"])
def test_a_name_longer_than_the_file_system_takes_is_a_missing_file(root: Path, uri: str, path: str | None) -> None:
    with pytest.raises(AttemptError) as caught:
        datasets.read_raw({"uri": uri, "path": path}, [str(root)])
    assert caught.value.detail == "file_missing"


def test_a_named_pipe_neither_blocks_nor_passes(root: Path) -> None:
    os.mkfifo(root / "pipe.csv")
    assert failure("pipe.csv", root).detail == "not_csv"


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(root: Path) -> None:
    with pytest.raises(AttemptError, match="at most 5") as caught:
        datasets.read_raw({"uri": "data/good.csv"}, [str(root)], max_bytes=5)
    assert caught.value.detail == "too_large"


def test_a_small_file_takes_no_more_memory_than_it_needs(root: Path) -> None:
    tracemalloc.start()
    try:
        datasets.read_raw({"uri": "data/good.csv"}, [str(root)])
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_has_more_than_it_said_is_read_whole_or_refused(root: Path) -> None:
    said = Path("/proc/self/environ").stat().st_size
    content = datasets.read_raw({"uri": "environ"}, ["/proc/self"]).content
    assert len(content) > said
    assert content == Path("/proc/self/environ").read_bytes()
    with pytest.raises(AttemptError, match="grew beyond 5 bytes") as caught:
        datasets.read_raw({"uri": "environ"}, ["/proc/self"], max_bytes=5)
    assert caught.value.detail == "too_large"


@pytest.mark.parametrize(
    ("content", "detail", "says"),
    [
        (b"", "empty_file", "0 bytes"),
        (b"\n \n", "empty_file", "3 bytes"),
        (b"a,b,y\n", "no_rows", "'b'"),
        (b"a,b,a\n1,2,3\n", "duplicate_columns", "'a'"),
        (b"a, a\n1,2\n", "duplicate_columns", "'a'"),
        (",".join(f"c{i}" for i in range(50_000)).encode() + b"\n1\n", "too_many_columns", "50000"),
        (b"a,b\n1,\x00\n", "not_csv", "NUL"),
        (b"a,b\n1,2,3\n", "not_csv", "CSV"),
        (b"a,b\n1,2\n1,2,3,4\n", "not_csv", "CSV"),
        (b'a,b\n"1,2\n3,4\n', "not_csv", "CSV"),
        (pickle.dumps({"a": 1}, protocol=4), "not_csv", "pickle"),
        (pickle.dumps({"a": 1}, protocol=2), "not_csv", "pickle"),
        (gzip.compress(GOOD, mtime=0), "not_csv", "gzip"),
        (b"PK\x03\x04rest", "not_csv", "zip"),
        ("a,b\n1,2\n".encode("utf-16"), "not_utf8", "UTF-16"),
        ("a,b\n1,é\n".encode("latin-1"), "not_utf8", "byte 6"),
        (b"a,b\n1,\xc3", "not_utf8", "byte 6"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_with_what_there_is(content: bytes, detail: str, says: str) -> None:
    with pytest.raises(AttemptError) as caught:
        datasets.parse_csv(content)
    assert (caught.value.reason, caught.value.detail) == (Reason.INVALID_DATASET, detail)
    assert says in caught.value.message


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_common_dialects_read_alike(separator: str, bom: bytes, end: str) -> None:
    text = end.join(["a, b ,y", '1,"x\u00e9",0', "2,,1"]) + end
    frame = datasets.parse_csv(bom + text.replace(",", separator).encode())
    assert list(frame.columns) == ["a", "b", "y"]
    assert frame["a"].tolist() == [1, 2]
    assert frame["b"].isna().tolist() == [False, True]


@pytest.mark.parametrize("content", [b"a, b, d\tc\n1,5\t2\n", b"a b|c\n1|2\n", b"a, b, d;c\n1,5;2\n"])
def test_a_table_is_split_where_its_header_is(content: bytes) -> None:
    table = datasets.parse_csv(content)
    assert table.shape == (1, 2)
    assert list(table["c"]) == [2]


def test_white_space_around_texts_is_none_of_theirs() -> None:
    table = datasets.parse_csv('a,b\nx ,1\n x,2\n" x ",3\n"  ",4\n\u00a0x\u00a0,5\n'.encode(), texts=["a"])
    assert table["a"].tolist()[:3] == ["x", "x", "x"]
    assert table["a"].isna().tolist() == [False, False, False, True, False]
    assert table["a"].tolist()[4] == "x"


def test_a_fetched_file_is_read_where_it_lies_and_named_by_where_it_came_from(tmp_path: Path) -> None:
    (tmp_path / "dataset.csv").write_bytes(GOOD)
    digest = hashlib.sha256(GOOD).hexdigest()
    raw = datasets.read_fetched(
        FetchedData(str(tmp_path / "dataset.csv"), "s3://bucket/good.csv", digest, len(GOOD), "id")
    )
    assert (raw.content, raw.sha256, raw.location, raw.dataset_id) == (GOOD, digest, "s3://bucket/good.csv", "id")


def test_a_fetched_file_that_changed_or_went_away_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dataset.csv"
    path.write_bytes(GOOD + b"3,y,1\n")
    fetched = FetchedData(str(path), "s3://bucket/good.csv", hashlib.sha256(GOOD).hexdigest(), len(GOOD))
    for detail in ("content_differs", "file_missing"):
        with pytest.raises(AttemptError) as caught:
            datasets.read_fetched(fetched)
        assert (caught.value.reason, caught.value.detail) == (Reason.INVALID_DATASET, detail)
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("content", [b"PK\x03\x04" + bytes(50), gzip.compress(GOOD, mtime=0), b"a.csv" + bytes(507)])
def test_an_archive_that_was_fetched_is_no_csv(content: bytes) -> None:
    with pytest.raises(AttemptError) as caught:
        datasets.parse_csv(content)
    assert caught.value.detail == "not_csv"
