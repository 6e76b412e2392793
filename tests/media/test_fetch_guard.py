"""Where the fetcher goes, and where it does not."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from aiohttp import web

from app.core.errors import ImageRejected
from app.media.addresses import AddressRules
from app.media.fetch import Fetcher, JudgingResolver
from app.media.names import NameServer as AllAddresses
from app.media.target import UrlRefused
from tests.media.fetch_lab import PARAM, fetch_lab
from tests.media.name_server import name_server
from tests.media.picture_host import ALLOWED_HOST, PNG, Page, canary

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2", "::1"])  # the picture host is 127.0.0.2


async def picture(_: web.BaseRequest) -> web.Response:
    return web.Response(body=PNG, content_type="image/png")


def redirect(location: str, status: int = 302) -> Page:
    async def page(_: web.BaseRequest) -> web.Response:
        return web.Response(status=status, headers={"Location": location})

    return page


async def test_a_picture_comes_through() -> None:
    async with fetch_lab({"/a.png": picture}) as lab:
        assert await lab.fetcher.get(lab.url("/a.png?x=%2F"), PARAM) == PNG
        assert lab.host.requests[0][0] == "/a.png?x=%2F"


async def test_the_host_learns_nothing_of_us(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with canary() as proxy:
        netrc = tmp_path / "netrc"
        netrc.write_text("default login me password secret\n", encoding="ascii")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")

        async def with_cookie(_: web.BaseRequest) -> web.Response:
            return web.Response(body=PNG, headers={"Set-Cookie": "a=b"})

        async with fetch_lab({"/a": with_cookie, "/b": redirect("/a")}) as lab:
            await lab.fetcher.get(lab.url("/a"), PARAM)
            await lab.fetcher.get(lab.url("/b"), PARAM)
            for _, headers in lab.host.requests:
                assert {name.lower() for name in headers} == {
                    "host",
                    "user-agent",
                    "accept",
                    "accept-encoding",
                    "connection",
                }
                assert headers["Host"] == f"img.test:{lab.host.port}"
                assert headers["User-Agent"] == "tuwen"
            assert len(lab.host.requests) == 3
        assert proxy.connections == 0


@pytest.mark.parametrize(
    "answers",
    [
        ["A 10.0.0.5"],
        ["A 127.0.0.1"],
        ["A 169.254.169.254"],
        ["A 100.100.100.200"],
        ["AAAA ::1"],
        ["AAAA ::ffff:127.0.0.2"],
        ["AAAA 64:ff9b::7f00:2"],
        ["AAAA fd00:ec2::254"],
        ["A 127.0.0.2", "A 127.0.0.1"],
        ["A 127.0.0.2", "AAAA ::1"],
        ["A 8.8.8.8"],
        [],
    ],
)
async def test_one_address_that_is_not_permitted_blocks_the_name(answers: list[str]) -> None:
    async with fetch_lab({"/a.png": picture}, {"x.test": [answers]}) as lab:
        await lab.assert_blocked(lab.url("/a.png", "x.test"))
        assert lab.host.requests == []


async def test_a_name_that_does_not_exist_reads_like_a_private_one() -> None:
    async with fetch_lab({}) as lab:
        await lab.assert_blocked(lab.url("/a.png", "nope.test"))


async def test_the_judged_address_is_the_one_dialled_though_the_name_changes_it() -> None:
    async with fetch_lab({"/a.png": picture}, {"x.test": [["A 127.0.0.2"], ["A 127.0.0.1"]]}) as lab:
        assert await lab.fetcher.get(lab.url("/a.png", "x.test"), PARAM) == PNG
        assert sorted(lab.names.queries) == [("x.test", "A"), ("x.test", "AAAA")]
        await lab.assert_blocked(lab.url("/a.png", "x.test"))
        assert len(lab.host.requests) == 1


async def test_of_many_addresses_all_are_judged_and_few_are_dialled() -> None:
    many = [f"A 127.0.1.{last}" for last in range(1, 100)]
    async with name_server({"x.test": [many], "y.test": [[*many, "A 10.0.0.5"]]}) as names:
        resolver = JudgingResolver(AddressRules.parse(["127.0.1.0/24:80"]), AllAddresses(names.address))
        dialled = await resolver.resolve("x.test", 80)
        assert len(dialled) == 2
        with pytest.raises(UrlRefused):
            await resolver.resolve("y.test", 80)


async def test_a_name_is_judged_again_at_each_redirect() -> None:
    async with fetch_lab({"/r": redirect("/a.png")}, {"x.test": [["A 127.0.0.2"], ["A 127.0.0.1"]]}) as lab:
        await lab.assert_blocked(lab.url("/r", "x.test"))
        assert [path for path, _ in lab.host.requests] == ["/r"]


async def test_a_name_server_that_breaks_on_one_kind_does_not_hide_the_other() -> None:
    async with fetch_lab({"/a.png": picture}, broken_kinds=frozenset({"AAAA"})) as lab:
        assert await lab.fetcher.get(lab.url("/a.png"), PARAM) == PNG


async def test_a_name_server_that_fails_is_a_failed_fetch() -> None:
    async with fetch_lab({}, broken_kinds=frozenset({"A", "AAAA"})) as lab:
        await lab.assert_failed(lab.url("/a.png"), "could not be downloaded")


async def test_a_silent_name_server_is_waited_for_no_longer_than_the_whole_fetch() -> None:
    async with fetch_lab({}, {"silent.test": None}, timeout_s=0.2) as lab:
        await lab.assert_failed(lab.url("/a.png", "silent.test"), "in time")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.3", "[::1]", "[::ffff:127.0.0.2]", "127.1", "localhost", "x"])
async def test_blocked_hosts_are_refused_without_a_question_to_dns(host: str) -> None:
    async with fetch_lab({}) as lab:
        await lab.assert_blocked(lab.url("/a.png", host))
        assert lab.names.queries == []


@pytest.mark.parametrize("port", [22, 6379, 8080])
async def test_other_ports_are_refused_without_a_question_to_dns(port: int) -> None:
    async with fetch_lab({}) as lab:
        await lab.assert_blocked(f"http://img.test:{port}/a.png")
        assert lab.names.queries == []


async def test_an_allowed_address_is_reached_without_a_name() -> None:
    async with fetch_lab({"/a.png": picture}) as lab:
        assert await lab.fetcher.get(lab.url("/a.png", ALLOWED_HOST), PARAM) == PNG


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "loop.test", "localhost", "2130706433"])
async def test_a_redirect_into_the_network_is_blocked(status: int, host: str) -> None:
    async with canary() as elsewhere:
        pages = {"/r": redirect(f"http://{host}:{elsewhere.port}/a.png", status)}
        async with fetch_lab(pages, {"loop.test": [["A 127.0.0.1"]]}) as lab:
            await lab.assert_blocked(lab.url("/r"))
        assert elsewhere.connections == 0


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://img.test/",
        "data:image/png;base64,AAAA",
        "http://u:p@img.test/",
        "http://[::1/",
        "\\\\x",
    ],
)
async def test_a_redirect_to_anything_else_is_refused(location: str) -> None:
    async with fetch_lab({"/r": redirect(location)}) as lab:
        assert (await lab.refusal(lab.url("/r"))).code in {
            "image_url_not_allowed",
            "invalid_image_url",
            "image_fetch_failed",
        }


async def test_three_redirects_are_followed() -> None:
    async def absolute(request: web.BaseRequest) -> web.Response:
        return web.Response(status=307, headers={"Location": f"//{request.host}/4"})

    pages = {"/1": redirect("/2"), "/2": redirect("3"), "/3": absolute, "/4": picture}
    async with fetch_lab(pages) as lab:
        assert await lab.fetcher.get(lab.url("/1"), PARAM) == PNG


async def test_a_fourth_redirect_is_not() -> None:
    async with fetch_lab({"/r": redirect("/r")}) as lab:
        await lab.assert_failed(lab.url("/r"), "redirects more than 3 times")
        assert len(lab.host.requests) == 4


@pytest.mark.parametrize("headers", [{}, {"Location": ""}])
async def test_a_redirect_without_an_address_is_asked_once(headers: dict[str, str]) -> None:
    async def page(_: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers=headers)

    async with fetch_lab({"/r": page}) as lab:
        await lab.assert_failed(lab.url("/r"), "redirects to nowhere")
        assert len(lab.host.requests) == 1


async def test_a_malformed_url_is_told_from_a_blocked_one() -> None:
    async with fetch_lab({}) as lab:
        assert (await lab.refusal("http://img.test/a b")).code == "invalid_image_url"


async def test_tls_asks_for_the_name_and_checks_the_certificate() -> None:
    """A host whose certificate nobody signed is not believed; what it saw shows that the name was asked for."""
    names: list[str | None] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(Path(__file__).with_name("self_signed.pem"))
    context.sni_callback = lambda _, name, __: names.append(name)  # type: ignore[assignment,return-value]  # None: go on
    async with fetch_lab({}) as lab:
        server = await asyncio.start_server(lambda _, writer: writer.close(), ALLOWED_HOST, 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        async with server:
            fetcher = Fetcher(allow=[f"{ALLOWED_HOST}/32:{port}"], resolver=lab.names.address, max_bytes=1024)
            with pytest.raises(ImageRejected, match="could not be downloaded") as caught:
                await fetcher.get(f"https://img.test:{port}/a.png", PARAM)
            await fetcher.aclose()
    assert caught.value.code == "image_fetch_failed"
    assert names == ["img.test"]


async def test_a_system_without_a_resolver_fails_the_fetch_not_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_configuration(*_: object) -> None:
        raise OSError("no such file")

    monkeypatch.setattr("dns.resolver.BaseResolver.read_resolv_conf", no_configuration)
    fetcher = Fetcher(max_bytes=1024)
    with pytest.raises(ImageRejected, match="could not be downloaded"):
        await fetcher.get("http://img.test/a.png", PARAM)
    await fetcher.aclose()


@pytest.mark.parametrize("resolver", ["", "127.0.0.1", "dns.test:53", "127.0.0.1:x"])
def test_an_unreadable_resolver_is_refused_at_the_start(resolver: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|does not appear|invalid literal"):
        Fetcher(resolver=resolver, max_bytes=1024)


async def test_closing_twice_or_unused_does_nothing() -> None:
    fetcher = Fetcher(max_bytes=1024)
    await fetcher.aclose()
    await fetcher.aclose()
