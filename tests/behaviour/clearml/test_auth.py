"""Who is let in, and what the client does when it is not."""

from __future__ import annotations

import base64
import json

import pytest
from pydantic import SecretStr

from tests.behaviour.clearml.raw import Raw, with_client
from tests.behaviour.clearml.server import ClearMLServer
from trainyard_runtime.clearml import ClearMLClient, ClearMLRefused

BAD_TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.bm90IGEgc2lnbmF0dXJl"


def test_no_credentials_are_401_20(raw: Raw) -> None:
    assert raw.call("queues.get_default").code == (401, 20)


def test_a_bad_secret_is_401_22(raw: Raw) -> None:
    assert raw.call("auth.login", auth=(raw.server.access_key, "not the secret")).code == (401, 22)


def test_a_bad_token_is_401_30(raw: Raw) -> None:
    assert raw.call("queues.get_default", headers={"Authorization": f"Bearer {BAD_TOKEN}"}).code == (401, 30)


def test_a_token_signed_by_somebody_else_is_401_30(raw: Raw) -> None:
    signed, _, signature = raw.token.rpartition(".")
    forged = f"{signed}.{signature[:10][::-1]}{signature[10:]}"
    assert forged != raw.token
    assert raw.call("queues.get_default", headers={"Authorization": f"Bearer {forged}"}).code == (401, 30)


def test_the_token_works_as_a_cookie(raw: Raw) -> None:
    answer = raw.call("queues.get_default", headers={"Cookie": f"clearml_token_basic={raw.token}"})
    assert answer.code == (200, 0)


def test_the_token_says_who_and_which_version(raw: Raw) -> None:
    header, payload, _ = raw.token.split(".")
    decode = [json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in (header, payload)]
    assert decode[0]["alg"] == "HS256"
    assert decode[1]["exp"] > decode[1]["iat"]
    assert decode[1]["auth_type"] == "Bearer"
    assert {"user", "company", "role", "user_name", "company_name"} <= decode[1]["identity"].keys()
    assert {"api_version", "server_version", "feature_set"} <= decode[1].keys()


def test_the_client_says_that_its_secret_is_wrong_and_does_not_print_it(clearml_server: ClearMLServer) -> None:
    async def act(client: ClearMLClient) -> None:
        await client.queues()

    with pytest.raises(ClearMLRefused) as refusal:
        with_client(clearml_server, act, secret_key=SecretStr("not-the-secret"))
    assert (refusal.value.code, refusal.value.subcode) == (401, 22)
    assert "not-the-secret" not in str(refusal.value)


def test_the_client_names_the_variables_when_it_has_no_credentials(clearml_server: ClearMLServer) -> None:
    async def act(client: ClearMLClient) -> None:
        await client.queues()

    with pytest.raises(ClearMLRefused, match="CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY"):
        with_client(clearml_server, act, access_key="", secret_key=SecretStr(""))


def test_the_client_logs_in_again_once_when_its_token_is_refused(clearml_server: ClearMLServer) -> None:
    async def act(client: ClearMLClient) -> tuple[str, str]:
        before = await client._transport.token()
        client._transport._token = BAD_TOKEN
        await client.queues()
        return before, await client._transport.token()

    before, after = with_client(clearml_server, act)
    assert before.count(".") == after.count(".") == 2
    assert after != BAD_TOKEN


def test_the_client_logs_in_before_its_token_expires(clearml_server: ClearMLServer) -> None:
    async def act(client: ClearMLClient) -> list[str]:
        transport, clock = client._transport, [1000.0]
        transport._monotonic = lambda: clock[0]
        tokens = [await transport.token(), await transport.token()]
        transport._token = "expires.soon.anyway"
        tokens.append(await transport.token())
        clock[0] = transport._renew_at
        tokens.append(await transport.token())
        return tokens

    first, second, kept, renewed = with_client(clearml_server, act)
    assert first == second
    assert kept == "expires.soon.anyway"
    assert renewed.count(".") == 2
    assert renewed != kept
