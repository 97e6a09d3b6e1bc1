"""The file server: multipart upload, ranges, deletion, who is let in."""

from __future__ import annotations

import io
import uuid
from pathlib import Path

import httpx2
import pytest

from tests.behaviour.clearml.raw import Raw, with_client
from tests.behaviour.clearml.server import ClearMLServer
from tests.integration.trainer_worker_data.web_server import Answer, web_server
from trainyard_runtime.clearml import ClearMLClient, ClearMLRefused


@pytest.fixture
def path() -> str:
    return f"contract/{uuid.uuid4().hex}/a file.bin"


def bearer(raw: Raw) -> dict[str, str]:
    return {"Authorization": f"Bearer {raw.token}"}


def test_the_root_answers_ok(raw: Raw) -> None:
    assert raw.http.get(f"{raw.server.files}/").status_code == 200


def test_a_multipart_upload_answers_the_paths_and_can_be_read_in_ranges(raw: Raw, path: str) -> None:
    url = f"{raw.server.files}/{path}"
    files = {path: (path, b"0123456789", "application/octet-stream")}
    uploaded = raw.http.post(f"{raw.server.files}/", files=files, headers=bearer(raw))
    assert uploaded.status_code == 200
    assert isinstance(uploaded.json(), list)
    assert len(uploaded.json()) == 1
    whole = raw.http.get(url, headers=bearer(raw))
    assert (whole.status_code, whole.content) == (200, b"0123456789")
    part = raw.http.get(url, headers={**bearer(raw), "Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert part.headers["content-range"] == "bytes 2-4/10"
    head = raw.http.head(url, headers=bearer(raw))
    assert (head.status_code, head.headers["content-length"]) == (200, "10")
    assert raw.http.delete(url, headers=bearer(raw)).status_code == 200
    assert raw.http.get(url, headers=bearer(raw)).status_code == 404


def test_nobody_reads_writes_or_deletes_without_a_token(raw: Raw, clearml_server: ClearMLServer, path: str) -> None:
    async def upload(client: ClearMLClient) -> str:
        return await client.upload_file(path, b"mine")

    async def clean(client: ClearMLClient) -> bytes:
        content = await client.read_file(url)
        await client.delete_file(url)
        return content

    url = with_client(clearml_server, upload)
    files = {path: (path, b"theirs", "application/octet-stream")}
    refused = [raw.http.get(url), raw.http.delete(url), raw.http.post(f"{clearml_server.files}/", files=files)]
    refused.append(raw.http.get(url, headers={"Authorization": "Bearer nonsense"}))
    basic = httpx2.BasicAuth(clearml_server.access_key, clearml_server.secret_key)
    refused.append(raw.http.get(url, auth=basic))
    assert {answer.status_code for answer in refused} == {401}
    assert with_client(clearml_server, clean) == b"mine"


def test_the_token_works_as_a_cookie_for_files_too(raw: Raw, clearml_server: ClearMLServer, path: str) -> None:
    async def upload(client: ClearMLClient) -> str:
        return await client.upload_file(path, b"mine")

    async def delete(client: ClearMLClient) -> None:
        await client.delete_file(url)

    url = with_client(clearml_server, upload)
    answer = raw.http.get(url, headers={"Cookie": f"clearml_token_basic={raw.token}"})
    assert (answer.status_code, answer.content) == (200, b"mine")
    with_client(clearml_server, delete)


def test_the_client_uploads_a_stream_overwrites_and_downloads(
    clearml_server: ClearMLServer, path: str, tmp_path: Path
) -> None:
    large = bytes(range(256)) * 20_000

    async def act(client: ClearMLClient) -> None:
        assert await client.upload_file(path, b"small") == client.file_url(path)
        url = await client.upload_file(path, io.BytesIO(large))
        assert await client.download_file(url, tmp_path / "got") == len(large)
        assert (tmp_path / "got").read_bytes() == large
        await client.delete_file(url)
        with pytest.raises(ClearMLRefused) as gone:
            await client.read_file(url)
        assert gone.value.code == 404

    with_client(clearml_server, act)


def test_an_upload_logs_in_again_once_and_sends_its_stream_from_the_start(
    clearml_server: ClearMLServer, path: str
) -> None:
    async def act(client: ClearMLClient) -> bytes:
        await client._transport.token()
        client._transport._token = "eyJhbGciOiJIUzI1NiJ9.e30.bm9uZQ"
        url = await client.upload_file(path, io.BytesIO(b"the whole of it"))
        content = await client.read_file(url)
        await client.delete_file(url)
        return content

    assert with_client(clearml_server, act) == b"the whole of it"


def test_our_token_goes_to_the_configured_file_server_only(clearml_server: ClearMLServer, raw: Raw) -> None:
    with web_server() as other:
        other.answers["/a.csv"] = Answer(b"theirs")
        url = other.url("/a.csv", "127.0.0.1")
        assert with_client(clearml_server, lambda client: client.read_file(url)) == b"theirs"
        ((_, headers),) = other.asked
        assert "authorization" not in headers
        asked = with_client(clearml_server, lambda client: client.read_file(url), files_host=url.removesuffix("/a.csv"))
        assert asked == b"theirs"
        assert other.asked[-1][1]["authorization"].startswith("Bearer ")
