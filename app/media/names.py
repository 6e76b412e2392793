"""Asks DNS for all addresses of a name."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

from dns.asyncresolver import Resolver
from dns.exception import DNSException
from dns.name import from_text
from dns.resolver import NXDOMAIN

from app.media.addresses import Address

_DNS_TIMEOUT_S = 3.0


class NameServer:
    """All addresses of a name, as DNS tells them; no hosts file, no search domains, no cache.

    Args:
        server: `host:port`, `None` for the system's.

    Raises:
        ValueError: `server` is not an address with a port.
    """

    def __init__(self, server: str | None) -> None:
        self._resolver: Resolver | None = None
        if server is not None:
            address, _, port = server.rpartition(":")
            self._resolver = Resolver(configure=False)
            self._resolver.nameservers = [str(ip_address(address.strip("[]")))]
            self._resolver.port = int(port)

    async def addresses(self, host: str) -> list[Address]:
        """Both kinds, IPv4 first; empty if the name has none or does not exist.

        Raises:
            DNSException, OSError: neither question was answered.
        """
        answers = await asyncio.gather(self._ask(host, "A"), self._ask(host, "AAAA"))
        found = [address for answer in answers if isinstance(answer, list) for address in answer]
        failures = [answer for answer in answers if isinstance(answer, Exception)]
        if failures and not found:
            raise failures[0]
        return found

    async def _ask(self, host: str, kind: str) -> list[Address] | DNSException | OSError:
        """One kind's addresses, or why there is no answer: some name servers break on AAAA and tell A all the same."""
        try:
            if self._resolver is None:
                self._resolver = Resolver()
            answer = await self._resolver.resolve(
                from_text(host), kind, lifetime=_DNS_TIMEOUT_S, raise_on_no_answer=False, search=False
            )
        except NXDOMAIN:
            return []
        except (DNSException, OSError) as error:
            return error
        return [ip_address(record.address) for record in answer.rrset or ()]
