"""One file out of an archive: nothing else is unpacked, and no lie of the archive is believed."""

from __future__ import annotations

import asyncio
import io
import stat
import zipfile
from pathlib import Path

import pytest

from trainyard_trainer_worker.data import zip_entry
from trainyard_trainer_worker.data.zip_entry import directory_bytes, read_entry
from trainyard_trainer_worker.spec import AttemptError, Detail


def archive(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries:
            made.writestr(name, content)
    return path


def read(path: Path, name: str) -> bytes:
    async def all_of_it() -> bytes:
        return b"".join([chunk async for chunk in read_entry(path, name, "the archive")])

    return asyncio.run(all_of_it())


def refused(path: Path, name: str) -> str:
    with pytest.raises(AttemptError) as error:
        read(path, name)
    assert error.value.detail == Detail.ARCHIVE_UNSAFE
    return error.value.message


def test_the_named_file_is_read_and_nothing_lands_beside_the_archive(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    path = archive(
        inner / "a.zip",
        ("../../slip.csv", b"bad"),
        ("/tmp/absolute.csv", b"bad"),
        ("a/train.csv", b"x,y\n" * 1000),
    )
    assert read(path, "a/train.csv") == b"x,y\n" * 1000
    assert [one.name for one in tmp_path.rglob("*")] == ["inner", "a.zip"]


def test_a_link_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("train.csv")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert "link" in refused(archive(tmp_path / "a.zip", (info, b"/etc/passwd")), "train.csv")


@pytest.mark.parametrize("name", ["other.csv", "../train.csv", "TRAIN.csv", ""])
def test_what_is_not_in_it_is_refused(tmp_path: Path, name: str) -> None:
    assert "not in it" in refused(archive(tmp_path / "a.zip", ("train.csv", b"x")), name)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    assert "2 times" in refused(archive(tmp_path / "a.zip", ("a.csv", b"1"), ("a.csv", b"2")), "a.csv")


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"x,y\n1,2\n", b"PK\x05\x06", b"\x00" * 100, b"PK\x05\x06" + b"\xff" * 18]
)
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    refused(path, "train.csv")


def read_or_refused(path: Path) -> bytes | Detail:
    try:
        return read(path, "train.csv")
    except AttemptError as error:
        return error.detail


def test_every_cut_and_many_a_flip_is_refused_or_read_right(tmp_path: Path) -> None:
    whole = archive(tmp_path / "whole.zip", ("train.csv", b"x,y\n1,2\n" * 20)).read_bytes()
    path = tmp_path / "a.zip"
    for at in range(len(whole)):
        for changed in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            path.write_bytes(changed)
            assert read_or_refused(path) in (Detail.ARCHIVE_UNSAFE, b"x,y\n1,2\n" * 20), at


def test_an_encrypted_file_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", ("train.csv", b"x" * 50))
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert "encrypted" in refused(path, "train.csv")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_packing_is_refused(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as made:
        made.writestr("train.csv", b"x" * 50)
    assert "unusual" in refused(path, "train.csv")


def test_a_directory_of_a_million_entries_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path / "a.zip", *((f"{number:08}.csv", b"") for number in range(1_000)))
    with path.open("rb") as file:
        size = directory_bytes(file)
    assert size == 1_000 * (46 + len("00000000.csv"))
    assert 1_000_000 * (46 + len("00000000.csv")) > zip_entry.MAX_DIRECTORY_BYTES
    monkeypatch.setattr(zip_entry, "MAX_DIRECTORY_BYTES", size - 1)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert "directory" in refused(path, "00000001.csv")


def test_a_zip64_directory_is_measured_too() -> None:
    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as made:
        for number in range(zipfile.ZIP_FILECOUNT_LIMIT + 1):
            made.writestr(zipfile.ZipInfo(f"{number}"), b"")
    assert b"PK\x06\x06" in plain.getvalue()
    with zipfile.ZipFile(plain) as opened:
        names = sum(len(name) for name in opened.namelist())
    assert directory_bytes(plain) == names + 46 * (zipfile.ZIP_FILECOUNT_LIMIT + 1)
