"""Which hosts a worker may fetch data from: pure.

A host is brought to one spelling, and only that spelling is used from then on, so that no two parsers can disagree
about it. An address is judged by what it reaches, also where an IPv4 address hides inside an IPv6 one. Numbers that
`inet_aton` would take (2130706433, 0177.1, 0x7f.1) are refused, not translated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import quote, urlsplit

Ip = IPv4Address | IPv6Address

MAX_HOST_CHARS: Final = 253
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_HOST: Final = re.compile(r"^(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*$")
_NUMBER: Final = re.compile(r"^(?:[0-9]+|0x[0-9a-f]*)$")
_SENT_AS_IT_IS: Final = "".join(chr(code) for code in range(0x21, 0x7F))

_NAT64: Final = IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = IPv6Network("::/96")
_TUNNELS: Final = (IPv6Network("2002::/16"), IPv6Network("2001::/32"), IPv6Network("64:ff9b:1::/48"))
_ISATAP: Final = (0x00005EFE, 0x02005EFE)
_PLATFORM: Final = frozenset({IPv4Address("168.63.129.16")})
"""Public by its number, and yet the metadata and DNS service of one cloud's own machines."""


class AddressRefused(ValueError):
    """A host, address or URL that nothing may be fetched from. The sentence is fit for a user and holds no secret."""


@dataclass(frozen=True, slots=True)
class WebAddress:
    """A web address in checked parts. `target` is the path with its query, as it is sent; it begins with /."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: what credentials are bound to."""
        return self.scheme, self.host, self.port

    @property
    def host_header(self) -> str:
        """The host as HTTP names it: IPv6 in brackets, the port where it is not the scheme's own."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return shown if self.port == DEFAULT_PORTS[self.scheme] else f"{shown}:{self.port}"

    @property
    def url(self) -> str:
        """The whole address in its one spelling."""
        return f"{self.scheme}://{self.host_header}{self.target}"

    @property
    def location(self) -> str:
        """The address without its query, which may hold what is nobody else's business."""
        return f"{self.scheme}://{self.host_header}{self.target.partition('?')[0]}"


@dataclass(frozen=True, slots=True)
class PrivateHosts:
    """Hosts that may be private, by the operator's word: `minio`, `minio:9000`, `10.0.0.5`, `[fd00::5]:9000`."""

    entries: frozenset[tuple[str, int | None]] = frozenset()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> PrivateHosts:
        """Raises AddressRefused for what is no host."""
        entries = set()
        for text in texts:
            try:
                parts = urlsplit(f"//{text}")
                port = parts.port
            except ValueError as problem:
                raise AddressRefused("holds something that is no host or host:port") from problem
            if parts.path or parts.query or parts.username is not None or not parts.hostname:
                raise AddressRefused("holds something that is no host or host:port")
            entries.add((canonical_host(parts.hostname), port))
        return cls(frozenset(entries))

    def allow(self, host: str, port: int) -> bool:
        """Whether this host (in its one spelling) may have any address."""
        return (host, None) in self.entries or (host, port) in self.entries


def web_address(url: str) -> WebAddress:
    """Take a URL apart. Raises AddressRefused for anything that is not plain http or https without credentials."""
    if any(ord(c) <= 0x20 or ord(c) == 0x7F for c in url):
        raise AddressRefused("holds blanks or control characters; percent-encode them")
    try:
        parts = urlsplit(url)
        hostname, port = parts.hostname, parts.port
    except ValueError as problem:
        raise AddressRefused("is no valid URL; check its host, port and brackets") from problem
    scheme = parts.scheme.lower()
    if scheme not in DEFAULT_PORTS:
        raise AddressRefused("is neither http:// nor https://")
    if "@" in parts.netloc:
        raise AddressRefused("holds credentials; they never belong into a URI")
    if "\\" in parts.netloc or not hostname:
        raise AddressRefused("names no host")
    if port == 0:
        raise AddressRefused("names port 0")
    try:
        target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_SENT_AS_IT_IS)
    except UnicodeEncodeError as problem:
        raise AddressRefused("holds half of a surrogate pair") from problem
    return WebAddress(scheme, canonical_host(hostname), port or DEFAULT_PORTS[scheme], target)


def canonical_host(text: str) -> str:
    """A host's one spelling: lower case, ASCII (IDNA), no final dot, an IP address as `ipaddress` writes it.

    Raises AddressRefused: a scope (`fe80::1%eth0`), percent-encoding, and numbers that only look like a name.
    """
    host = text.lower()
    if ":" in host:
        if "%" in host:
            raise AddressRefused("names an IPv6 address with a scope")
        try:
            return str(ip_address(host))
        except ValueError as problem:
            raise AddressRefused("names something that is no IPv6 address") from problem
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii").lower()
        except UnicodeError as problem:
            raise AddressRefused("names a host that cannot be written in ASCII") from problem
    host = host.removesuffix(".")
    if len(host) > MAX_HOST_CHARS or not _HOST.match(host):
        raise AddressRefused("names something that is no host")
    if _NUMBER.match(host.rpartition(".")[2]):
        try:
            return str(IPv4Address(host))
        except ValueError as problem:
            raise AddressRefused(
                "names a host by a number that is not four decimal parts; write it like 192.0.2.1"
            ) from problem
    return host


def literal(host: str) -> Ip | None:
    """The address that a host in its one spelling is, or None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def refusal(address: Ip) -> str | None:
    """Why nothing may be fetched from an address; None where it is an ordinary public one."""
    if isinstance(address, IPv4Address):
        if address in _PLATFORM:
            return "a metadata service of the machine's platform"
        if address.is_loopback or address.is_unspecified:
            return "the worker's own machine"
        if address.is_link_local:
            return "link-local, where metadata services are"
        if address.is_multicast or not address.is_global:
            return "in a private or reserved network"
        return None
    inner = _inner(address)
    if inner is not None:
        return refusal(inner)
    if address.is_loopback or address.is_unspecified:
        return "the worker's own machine"
    if address.is_link_local or address.is_site_local:
        return "link-local, where metadata services are"
    if any(address in network for network in _TUNNELS):
        return "inside a tunnel whose end cannot be judged"
    if address.is_multicast or not address.is_global:
        return "in a private or reserved network"
    return None


def _inner(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for: mapped, compatible, NAT64 or ISATAP."""
    last = IPv4Address(int(address) & 0xFFFFFFFF)
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64 or (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return last
    if address in _COMPATIBLE and int(address) > 1:
        return last
    return None
