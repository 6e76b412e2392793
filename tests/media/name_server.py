"""A DNS server on loopback that answers from a zone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
from typing_extensions import override

Zone: TypeAlias = Mapping[str, Sequence[Sequence[str]] | None]
"""Each name's answers, as `A 127.0.0.2`: one list per query of a kind, in turn, the last for good. None: no reply."""


@dataclass
class NameServer(asyncio.DatagramProtocol):
    zone: Zone
    broken_kinds: frozenset[str] = frozenset()
    queries: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""

    @override
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # a datagram endpoint gets this kind
        self._transport = transport
        host, port = transport.get_extra_info("sockname")
        self.address = f"{host}:{port}"

    @override
    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        turn = self.queries.count((name, kind))
        self.queries.append((name, kind))
        if name in self.zone and self.zone[name] is None:
            return
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        answers = self.zone.get(name)
        if kind in self.broken_kinds:
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif answers is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        else:
            records = [record.split() for record in answers[min(turn, len(answers) - 1)]]
            values = [value for record_kind, value in records if record_kind == kind]
            if values:
                reply.answer.append(dns.rrset.from_text(question.name, 0, "IN", kind, *values))
        self._transport.sendto(reply.to_wire(), addr)


@asynccontextmanager
async def name_server(zone: Zone, broken_kinds: frozenset[str] = frozenset()) -> AsyncIterator[NameServer]:
    """Args: broken_kinds: record types it fails on (SERVFAIL), as `AAAA`."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: NameServer(zone, broken_kinds), local_addr=("127.0.0.1", 0)
    )
    try:
        yield server
    finally:
        transport.close()
