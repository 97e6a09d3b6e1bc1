"""The cache on a real disk: bounds, corruption, dead writers, and several processes at once."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from trainyard_trainer_worker.data.cache import DataCache, Known
from trainyard_trainer_worker.spec import AttemptError, Detail

MAX_BYTES = 1 << 20


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def put(cache: DataCache, content: bytes, target: Path) -> str:
    with cache.incoming(MAX_BYTES, "the file") as incoming:
        await incoming.add(content)
        return (await incoming.keep(target)).sha256


def take(cache: DataCache, digest: str, target: Path) -> bytes | None:
    found = asyncio.run(cache.get(digest, target))
    return None if found is None else target.read_bytes()


def kept(folder: Path) -> set[str]:
    return {path.name for path in (folder / "blobs").iterdir()}


def test_content_is_kept_and_handed_out_by_its_hash(tmp_path: Path) -> None:
    cache = DataCache(tmp_path / "cache", MAX_BYTES)
    digest = asyncio.run(put(cache, b"x,y\n1,2\n", tmp_path / "first"))
    assert digest == sha256(b"x,y\n1,2\n")
    assert (tmp_path / "first").read_bytes() == b"x,y\n1,2\n"
    assert take(cache, digest, tmp_path / "second") == b"x,y\n1,2\n"
    assert take(cache, sha256(b"other"), tmp_path / "third") is None
    assert list((tmp_path / "cache" / "incoming").iterdir()) == []


def test_content_that_changed_on_disk_is_never_handed_out(tmp_path: Path) -> None:
    cache = DataCache(tmp_path / "cache", MAX_BYTES)
    digest = asyncio.run(put(cache, b"x,y\n1,2\n", tmp_path / "first"))
    blob = cache.blob(digest)
    blob.chmod(0o600)
    blob.write_bytes(b"x,y\n9,9\n")
    assert take(cache, digest, tmp_path / "second") is None
    assert not (tmp_path / "second").exists()
    assert kept(tmp_path / "cache") == set()


def test_the_bound_holds_and_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = DataCache(tmp_path / "cache", 250)
    digests = []
    for number in range(2):
        digests.append(asyncio.run(put(cache, bytes([number]) * 100, tmp_path / f"put-{number}")))
        os.utime(cache.blob(digests[-1]), ns=(number, number))
    assert take(cache, digests[0], tmp_path / "used") is not None
    third = asyncio.run(put(cache, b"3" * 100, tmp_path / "put-3"))
    assert kept(tmp_path / "cache") == {digests[0], third}
    assert (tmp_path / "put-1").read_bytes() == b"\x01" * 100, "what was handed out stays"


def test_a_file_larger_than_the_whole_cache_is_handed_out_and_not_kept(tmp_path: Path) -> None:
    cache = DataCache(tmp_path / "cache", 50)
    asyncio.run(put(cache, b"x" * 100, tmp_path / "large"))
    assert (tmp_path / "large").stat().st_size == 100
    assert kept(tmp_path / "cache") == set()


def test_a_file_over_the_limit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    cache = DataCache(tmp_path / "cache", MAX_BYTES)

    async def fill() -> None:
        with cache.incoming(150, "s3://bucket/large.csv") as incoming:
            await incoming.add(b"x" * 100)
            await incoming.add(b"x" * 100)

    with pytest.raises(AttemptError) as refused:
        asyncio.run(fill())
    assert refused.value.detail == Detail.TOO_LARGE
    assert "s3://bucket/large.csv" in refused.value.message
    assert list((tmp_path / "cache" / "incoming").iterdir()) == []


def test_what_an_address_held_is_forgotten_with_its_content(tmp_path: Path) -> None:
    cache = DataCache(tmp_path / "cache", MAX_BYTES)
    digest = asyncio.run(put(cache, b"x" * 100, tmp_path / "one"))
    cache.remember("https://data.example/a.csv", Known(digest, '"tag"'))
    assert cache.known("https://data.example/a.csv") == Known(digest, '"tag"')
    assert cache.known("https://data.example/b.csv") is None
    cache.blob(digest).unlink()
    cache.clean()
    assert cache.known("https://data.example/a.csv") is None


def test_a_broken_note_counts_as_none(tmp_path: Path) -> None:
    cache = DataCache(tmp_path / "cache", MAX_BYTES)
    cache.remember("key", Known("0" * 64, '"tag"'))
    (note,) = (tmp_path / "cache" / "known").iterdir()
    for text in ("", "{", "[]", '{"key": "other", "sha256": "", "validator": ""}'):
        note.write_text(text)
        assert cache.known("key") is None


WRITER = """
import asyncio, sys
from pathlib import Path
from trainyard_trainer_worker.data.cache import DataCache

async def main():
    cache = DataCache(Path(sys.argv[1]), 1 << 20)
    with cache.incoming(1 << 20, "the file") as incoming:
        await incoming.add(b"x" * 1000)
        print("writing", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def test_what_a_killed_writer_left_is_cleaned_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        cache = DataCache(folder, MAX_BYTES)
        assert len(list((folder / "incoming").iterdir())) == 1
        writer.send_signal(signal.SIGKILL)
        writer.wait(10)
        cache.clean()
        assert list((folder / "incoming").iterdir()) == []
    finally:
        writer.kill()
        writer.wait()
        assert writer.stdout is not None
        writer.stdout.close()


CROWD = """
import asyncio, hashlib, random, sys
from pathlib import Path
from trainyard_trainer_worker.data.cache import DataCache

async def main(folder, own, seed, steps):
    chance = random.Random(seed)
    cache = DataCache(folder, 5_000)
    for step in range(steps):
        content = bytes([chance.randrange(12)]) * 1000
        digest, target = hashlib.sha256(content).hexdigest(), own / f"{seed}-{step}"
        if await cache.get(digest, target) is None:
            with cache.incoming(2_000, "the file") as incoming:
                await incoming.add(content)
                await incoming.keep(target)
        assert target.read_bytes() == content
        target.unlink()
        print(step, flush=True)

asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
"""


def test_a_crowd_of_processes_of_which_some_are_killed_never_gets_wrong_bytes(tmp_path: Path) -> None:
    folder, own = tmp_path / "cache", tmp_path / "own"
    own.mkdir()
    program = [sys.executable, "-c", textwrap.dedent(CROWD), str(folder), str(own)]
    doomed = [
        subprocess.Popen([*program, str(seed), "1000000"], stdout=subprocess.PIPE, bufsize=0)
        for seed in range(100, 103)
    ]
    others = [subprocess.Popen([*program, str(seed), "150"], stdout=subprocess.DEVNULL) for seed in range(3)]
    for process in doomed:
        assert process.stdout is not None
        for _ in range(40):
            assert process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
    assert [process.wait(60) for process in others] == [0, 0, 0]
    cache = DataCache(folder, 5_000)
    assert list((folder / "incoming").iterdir()) == []
    blobs = list((folder / "blobs").iterdir())
    assert 0 < len(blobs) <= 5
    assert all(sha256(path.read_bytes()) == path.name for path in blobs)
    assert take(cache, blobs[0].name, own / "last") is not None
