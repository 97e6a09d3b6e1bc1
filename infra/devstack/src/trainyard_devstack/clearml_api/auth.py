"""Who calls: Basic credentials, bearer tokens (JWT, HS256) and the cookie."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final

from trainyard_devstack.clearml_api.call import COMPANY, USER
from trainyard_devstack.clearml_api.errors import ApiError

API_VERSION: Final = "2.34"
SERVER_VERSION: Final = "2.3.0"
COOKIE: Final = "clearml_token_basic"


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Checks one pair of credentials and the tokens made from it; tokens outlive a restart."""

    access_key: str
    secret_key: str
    token_lifetime_s: int

    def login(self, headers: Mapping[str, str], now_s: float, lifetime_s: int | None = None) -> str:
        """A fresh token for whoever is authenticated. Errors: 401."""
        self.check(headers, now_s)
        lifetime_s = min(lifetime_s or self.token_lifetime_s, self.token_lifetime_s)
        return self.token(now_s, lifetime_s)

    def token(self, now_s: float, lifetime_s: int) -> str:
        """A signed token that expires `lifetime_s` from now."""
        claims = {
            "exp": int(now_s) + lifetime_s,
            "iat": int(now_s),
            "auth_type": "Bearer",
            "identity": {
                "user": USER["id"],
                "company": COMPANY["id"],
                "role": "admin",
                "user_name": USER["name"],
                "company_name": COMPANY["name"],
            },
            "api_version": API_VERSION,
            "server_version": SERVER_VERSION,
            "feature_set": "basic",
        }
        signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
        return f"{signed}.{self._signature(signed)}"

    def check(self, headers: Mapping[str, str], now_s: float, *, basic: bool = True) -> None:
        """Accept the caller or raise 401 with 20 (none given), 22 (bad secret) or 30 (bad token)."""
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic" and basic:
            self._check_pair(value)
        elif scheme.lower() == "bearer":
            self._check_token(value, now_s)
        else:
            token = _cookie(headers.get("cookie", ""))
            if not token:
                raise ApiError(401, 20, "Unauthorized (missing credentials)")
            self._check_token(token, now_s)

    def _check_pair(self, value: str) -> None:
        try:
            key, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
        except (ValueError, binascii.Error):
            raise ApiError(401, 22, "Unauthorized (invalid credentials)") from None
        good_key = hmac.compare_digest(key.encode(), self.access_key.encode())
        if not hmac.compare_digest(secret.encode(), self.secret_key.encode()) or not good_key:
            raise ApiError(401, 22, "Unauthorized (invalid credentials)")

    def _check_token(self, token: str, now_s: float) -> None:
        signed, _, signature = token.rpartition(".")
        try:
            header, payload = (_read(part) for part in signed.split("."))
            good = header.get("alg") == "HS256" and hmac.compare_digest(signature, self._signature(signed))
            expires = float(payload["exp"])
        except (ValueError, KeyError, TypeError, binascii.Error):
            raise ApiError(401, 30, "Unauthorized (invalid token)") from None
        if not good or expires <= now_s:
            raise ApiError(401, 30, "Unauthorized (invalid or expired token)")

    def _signature(self, signed: str) -> str:
        key = hashlib.sha256(f"token:{self.access_key}:{self.secret_key}".encode()).digest()
        return _base64(hmac.new(key, signed.encode(), hashlib.sha256).digest())


def _cookie(header: str) -> str:
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _part(value: Mapping[str, Any]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _read(part: str) -> dict[str, Any]:
    value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value
