"""Which network addresses a picture may be fetched from.

The tables are explicit, from the IANA special-purpose registries (iana.org/assignments/iana-ipv4-special-registry and
iana-ipv6-special-registry, read 2026-11-20). `ipaddress.is_global` is no substitute: in Python 3.11 it calls multicast,
192.0.0.192, ::127.0.0.1, 64:ff9b::7f00:1 and 2002:7f00:1:: global.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

WEB_PORTS = frozenset({80, 443})

_NOT_PUBLIC_V4 = tuple(
    IPv4Network(net)
    for net in (
        "0.0.0.0/8",  # this network; reaches loopback
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; holds Alibaba Cloud's metadata service
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host, which answers its guests on this public-looking address
        "169.254.0.0/16",  # link local; holds most clouds' metadata services
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; holds Oracle Cloud's metadata service
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT relays
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)

# Everything outside it is special: ::/96 and ::ffff:0:0/96 (an IPv4 address inside), NAT64, unique local, link local,
# site local, multicast. What an IPv4 address inside means is up to a relay or to the kernel, so none is taken.
_PUBLIC_V6 = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    IPv6Network(net)
    for net in (
        "2001::/23",  # protocol assignments: Teredo (an IPv4 address inside), benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # the former 6bone
        "3fff::/20",  # documentation
    )
)
_ISATAP = frozenset(
    {0x00005EFE, 0x02005EFE}
)  # RFC 5214: the upper half of an interface id that ends in an IPv4 address


def is_public(address: Address) -> bool:
    """Whether the address is a host on the open internet, by the tables above."""
    if isinstance(address, IPv4Address):
        return not any(address in net for net in _NOT_PUBLIC_V4)
    if address not in _PUBLIC_V6 or (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return False
    return not any(address in net for net in _NOT_PUBLIC_V6)


@dataclass(frozen=True, slots=True)
class AddressRules:
    """Where the fetcher may connect to: web ports of public addresses, and what the operator allows beside them."""

    allowed: tuple[tuple[Network, int], ...] = ()

    @classmethod
    def parse(cls, entries: Sequence[str]) -> AddressRules:
        """Reads the operator's allow-list.

        Args:
            entries: `CIDR:port` each, as `10.1.2.0/24:8080` or `[fd12::/64]:443`.

        Raises:
            ValueError: an entry is not of this form; the message quotes it.
        """
        return cls(tuple(_entry(entry) for entry in entries))

    def permits_port(self, port: int) -> bool:
        """False if no address at all may be dialled on this port."""
        return port in WEB_PORTS or any(port == allowed for _, allowed in self.allowed)

    def permits(self, address: Address, port: int) -> bool:
        if any(address in net and port == allowed for net, allowed in self.allowed):
            return True
        return port in WEB_PORTS and is_public(address)


def _entry(entry: str) -> tuple[Network, int]:
    cidr, _, port = entry.strip().rpartition(":")
    try:
        network, number = ip_network(cidr.removeprefix("[").removesuffix("]")), int(port)
    except ValueError as error:
        raise ValueError(f"{entry!r} is not of the form CIDR:port, as 10.1.2.0/24:8080: {error}") from error
    if not 0 < number <= 65535:
        raise ValueError(f"{entry!r} names port {number}; ports are 1 to 65535")
    return network, number
