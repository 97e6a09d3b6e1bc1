"""Hosts and addresses: every spelling of what is not public is refused, what is public passes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard_trainer_worker.data.addresses import (
    AddressRefused,
    PrivateHosts,
    canonical_host,
    literal,
    refusal,
    web_address,
)

PRIVATE = (
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.5", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "192.0.2.1", "198.18.0.1"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
)
PUBLIC = ("1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.255.255", "172.32.0.1", "52.216.8.51")


@pytest.mark.parametrize("text", PRIVATE)
def test_what_is_not_public_is_refused_also_inside_an_ipv6_address(text: str) -> None:
    address = IPv4Address(text)
    number = int(address)
    assert refusal(address) is not None
    for spelled in (
        IPv6Address((0xFFFF << 32) | number),  # mapped
        IPv6Address((0x64FF9B << 96) | number),  # NAT64
        IPv6Address((0x2002 << 112) | (number << 80) | 1),  # 6to4
        IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF)),  # Teredo
        IPv6Address((0x26001F18 << 96) | (0x00005EFE << 32) | number),  # ISATAP in a public prefix
    ):
        assert refusal(spelled) is not None, spelled


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is_public_passes_also_through_nat64(text: str) -> None:
    address = IPv4Address(text)
    assert refusal(address) is None
    assert refusal(IPv6Address((0x64FF9B << 96) | int(address))) is None
    assert refusal(IPv6Address((0xFFFF << 32) | int(address))) is None


@pytest.mark.parametrize(
    "text",
    [
        *("::1", "::", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "2002:102:304::1"),
        *("::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001:0:4136:e378::1"),
    ],
)
def test_ipv6_that_is_not_public_is_refused(text: str) -> None:
    assert refusal(ip_address(text)) is not None


def test_public_ipv6_passes() -> None:
    assert refusal(ip_address("2606:4700:4700::1111")) is None


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_is_judged_alike_in_every_form(number: int) -> None:
    address = IPv4Address(number)
    assert (refusal(address) is None) == (refusal(IPv6Address((0xFFFF << 32) | number)) is None)
    assert (refusal(address) is None) == (refusal(IPv6Address((0x64FF9B << 96) | number)) is None)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "2130706433",
            "017700000001",
            "0x7f000001",
            "0x7F.0.0.1",
            "0177.0.0.1",
            "127.1",
            "127.0.1",
            "0",
            "0x",
            "127.0.0.01",
        ),
        *("1.2.3.4.5", "256.1.1.1", "169.254.43518", "0xa9.0xfe.0xa9.0xfe", "127.0.0.1:80:80", "example.com.0x1"),
        *("fe80::1%eth0", "::ffff:127.0.0.1%1", "[::1", "127%2e0.0.1", "ex ample.com", "-a.example", "a..b", "", "."),
        *(
            "a" * 64 + ".example",
            ("a" * 60 + ".") * 5 + "example",
            "exa\\mple.com",
            "host/path",
            "ex@mple",
            "\ud800.example",
        ),
    ],
)
def test_a_host_in_a_spelling_that_parsers_read_differently_is_refused(host: str) -> None:
    with pytest.raises(AddressRefused):
        canonical_host(host)


@pytest.mark.parametrize(
    ("host", "spelled"),
    [
        ("EXAMPLE.com.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("①②⑦.⓪.⓪.①", "127.0.0.1"),  # circled digits: IDNA reads them as digits, so we must before we judge
        ("127。0。0。1", "127.0.0.1"),  # ideographic full stops
        ("2606:4700:4700:0:0:0:0:1111", "2606:4700:4700::1111"),
        ("my_minio", "my_minio"),
        ("ⓛocalhost", "localhost"),
    ],
)
def test_a_host_has_one_spelling(host: str, spelled: str) -> None:
    assert canonical_host(host) == spelled
    assert canonical_host(spelled) == spelled


@given(st.integers(0, 2**32 - 1), st.sampled_from(["{}", "0x{:x}", "0{:o}"]))
def test_no_number_that_inet_aton_takes_is_a_host(number: int, form: str) -> None:
    with pytest.raises(AddressRefused):
        canonical_host(form.format(number))


@given(st.text(min_size=1, max_size=30))
def test_a_host_is_refused_or_in_its_one_spelling(text: str) -> None:
    try:
        host = canonical_host(text)
    except AddressRefused:
        return
    assert canonical_host(host) == host
    assert host.isascii()
    assert literal(host) is not None or not host.rpartition(".")[2].isdigit()


@pytest.mark.parametrize(
    "url",
    [
        *(
            "ftp://example.com/a",
            "file:///etc/passwd",
            "gopher://x/",
            "https://",
            "https:///path",
            "//example.com/a",
            "x",
        ),
        *("https://user@example.com/a", "https://user:pw@example.com/a", "https://example.com@127.0.0.1/a"),
        *(
            "https://example.com\\@127.0.0.1/a",
            "https://example.com:0/",
            "https://example.com:99999/",
            "https://[::1/a",
        ),
        *(
            "https://example.com/a b",
            "https://example.com/\r\nHost: x",
            "https://example.com/\x00",
            "\thttps://a.example/",
        ),
        *("https://0x7f.1/", "https://127.1/", "https://2130706433/", "https://[fe80::1%25eth0]/"),
    ],
)
def test_a_url_that_is_not_plain_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        web_address(url)


def test_a_url_is_taken_apart_and_put_together_again() -> None:
    found = web_address("HTTPS://Data.Example:443/sets/größe.csv?v=1&x=%20#part")
    assert (found.scheme, found.host, found.port) == ("https", "data.example", 443)
    assert found.url == "https://data.example/sets/gr%C3%B6%C3%9Fe.csv?v=1&x=%20"
    assert found.location == "https://data.example/sets/gr%C3%B6%C3%9Fe.csv"
    assert web_address("http://[::1]:8081").host_header == "[::1]:8081"
    assert web_address(found.url) == found


def test_the_operator_allows_hosts_by_name_and_port() -> None:
    allowed = PrivateHosts.parse(["minio:9000", "Data.Internal", "[fd00::5]:9000", "10.0.0.5"])
    assert allowed.allow("minio", 9000)
    assert not allowed.allow("minio", 9001)
    assert allowed.allow("data.internal", 80)
    assert allowed.allow("fd00::5", 9000)
    assert allowed.allow("10.0.0.5", 1)
    assert not allowed.allow("other", 9000)
    for wrong in ("http://minio:9000", "minio/x", "a@b", "127.1", ""):
        with pytest.raises(AddressRefused):
            PrivateHosts.parse([wrong])
