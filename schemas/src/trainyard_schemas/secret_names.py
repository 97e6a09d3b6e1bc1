"""Names whose value opens a door: the one list, for URIs that are refused and for records that are redacted."""

from __future__ import annotations

_ENDINGS = ("password", "passwd", "secret", "secretkey", "accesskey", "accesskeyid", "privatekey", "apikey")
_NAMES = frozenset(
    {
        "accesstoken",
        "apitoken",
        "auth",
        "authorization",
        "authtoken",
        "bearer",
        "bearertoken",
        "credentials",
        "idtoken",
        "jwt",
        "passphrase",
        "privatetoken",
        "pwd",
        "refreshtoken",
        "sas",
        "sastoken",
        "secrettoken",
        "securitytoken",
        "sessiontoken",
        "subscriptionkey",
        "token",
        "xamzcredential",
        "xamzsecuritytoken",
        "xamzsignature",
        "xauthtoken",
        "xgoogcredential",
        "xgoogsignature",
    }
)
_QUERY_ONLY = frozenset({"code", "key", "session", "sessionid", "sig", "signature"})


def is_secret(name: str, *, in_query: bool = False) -> bool:
    """Whether what stands under `name` is kept from everybody; case, `-` and `_` do not count, nor what ends in a dot.

    `in_query` adds names that sign or authorise in a URI and are common words elsewhere.
    """
    plain = name.rpartition(".")[2].lower().replace("-", "").replace("_", "").strip()
    plain = plain.removeprefix("aws").removeprefix("ocpapim")
    return plain.endswith(_ENDINGS) or plain in _NAMES or (in_query and plain in _QUERY_ONLY)
