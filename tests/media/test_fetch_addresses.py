from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.media.addresses import AddressRules, is_public

any_v4 = st.integers(0, 2**32 - 1).map(IPv4Address)


SPECIAL = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254
    168.63.129.16 169.254.169.254 169.254.0.23 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.31.196.1
    192.52.193.1 192.88.99.1 192.168.0.1 192.168.255.255 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1
    224.0.0.1 224.0.0.251 239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::2 ::7f00:1 ::808:808 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:8.8.8.8 64:ff9b::7f00:1 64:ff9b::808:808
    64:ff9b:1::1 100::1 100:0:0:1::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1
    2001:db8::1 2002:7f00:1:: 2002:808:808::1 2620:4f:8000::1 3ffe::1 3fff::1 5f00::1 4000::1 fc00::1 fd00::1
    fd00:ec2::254 fe80::1 febf::1 fec0::1 ff02::1 ff0e::1 2400:3200::5efe:10.0.0.1 2400:3200::200:5efe:8.8.8.8
    """


@pytest.mark.parametrize("text", SPECIAL.split())
def test_special_addresses_are_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.15
    169.253.255.255 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0
    223.255.255.255 223.5.5.5 2400:3200::1 2606:4700:4700::1111 2001:4860:4860::8888 2a00:1450::1 2001:200::1
    """


@pytest.mark.parametrize("text", PUBLIC.split())
def test_neighbours_of_special_nets_are_public(text: str) -> None:
    assert is_public(ip_address(text))


@given(any_v4, st.sampled_from(["::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::", "fe80::5efe:0:0"]))
def test_no_v6_form_of_a_v4_address_is_public(address: IPv4Address, prefix: str) -> None:
    assert not is_public(IPv6Address(int(IPv6Address(prefix)) | int(address)))


@given(any_v4)
def test_no_6to4_or_teredo_form_of_a_v4_address_is_public(address: IPv4Address) -> None:
    assert not is_public(IPv6Address((0x2002 << 112) | (int(address) << 80)))
    assert not is_public(IPv6Address((0x20010000 << 96) | (int(address) ^ 0xFFFFFFFF)))


@given(any_v4)
def test_nothing_the_standard_library_knows_as_special_is_public(address: IPv4Address) -> None:
    special = address.is_private or address.is_loopback or address.is_link_local
    assert not (is_public(address) and (special or address.is_multicast or address.is_reserved))


def test_only_web_ports_of_public_addresses_are_permitted() -> None:
    rules = AddressRules()
    assert rules.permits(ip_address("8.8.8.8"), 443)
    assert not rules.permits(ip_address("8.8.8.8"), 22)
    assert not rules.permits(ip_address("127.0.0.1"), 443)
    assert not rules.permits_port(6379)


def test_an_allowed_net_is_permitted_on_its_port_only() -> None:
    rules = AddressRules.parse(["127.0.0.2/32:9802", "[fd12::/64]:8080", "10.0.0.0/8:80"])
    assert rules.permits(ip_address("127.0.0.2"), 9802)
    assert rules.permits(ip_address("fd12::7"), 8080)
    assert rules.permits(ip_address("10.9.9.9"), 80)
    assert rules.permits_port(9802)
    assert not rules.permits(ip_address("127.0.0.2"), 80)
    assert not rules.permits(ip_address("127.0.0.1"), 9802)
    assert not rules.permits(ip_address("::ffff:127.0.0.2"), 9802)
    assert not rules.permits(ip_address("8.8.8.8"), 9802)


@pytest.mark.parametrize(
    "entry", ["", "10.0.0.0/8", "10.0.0.1/8:80", "10.0.0.0/8:http", "10.0.0.0/8:0", "nowhere:80", "10.0.0.0/8:70000"]
)
def test_an_unreadable_allow_list_entry_is_quoted(entry: str) -> None:
    with pytest.raises(ValueError, match=r"CIDR:port|ports are") as caught:
        AddressRules.parse([entry])
    assert repr(entry) in str(caught.value)
