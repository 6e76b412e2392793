import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.media.target import UrlRefused, parse_target


def refusal(url: str) -> str:
    with pytest.raises(UrlRefused) as caught:
        parse_target(url)
    return caught.value.code


@pytest.mark.parametrize(
    ("url", "dialled", "host", "port"),
    [
        ("http://example.com", "http://example.com/", "example.com", 80),
        ("HTTPS://Example.COM:443/A.png?B=c%2Fd", "https://example.com/A.png?B=c%2Fd", "example.com", 443),
        ("http://example.com:8080?x=1", "http://example.com:8080/?x=1", "example.com", 8080),
        ("http://example.com:/a", "http://example.com/a", "example.com", 80),
        ("https://example.com/猫.png", "https://example.com/%E7%8C%AB.png", "example.com", 443),
        ("https://例え.jp/a.png#there", "https://xn--r8jz45g.jp/a.png", "xn--r8jz45g.jp", 443),
        ("https://cafe\u0301.com/", "https://xn--caf-dma.com/", "xn--caf-dma.com", 443),
        ("https://my_bucket.oss-cn-beijing.aliyuncs.com/a@b:c", None, "my_bucket.oss-cn-beijing.aliyuncs.com", 443),
        ("http://8.8.8.8/x", "http://8.8.8.8/x", "8.8.8.8", 80),
        ("http://[2400:3200:0::1]:443/x", "http://[2400:3200::1]:443/x", "2400:3200::1", 443),
        ("http://127.0.0.1.example.com/", None, "127.0.0.1.example.com", 80),
        ("http://example.com#@10.0.0.1/", "http://example.com/", "example.com", 80),
    ],
)
def test_an_honest_url_is_read_and_rebuilt(url: str, dialled: str | None, host: str, port: int) -> None:
    target = parse_target(url)
    assert str(target.url) == (dialled or url)
    assert (target.host, target.port) == (host, port)
    assert target.url.raw_host == host
    assert target.url.port == port


NOT_PUBLIC = """
    2130706433 0x7f000001 0x7f.0x0.0x0.0x1 0X7F.1 0177.0.0.1 0177.00.00.01 127.1 127.0.1 0 0x 00000000000 127.0.0.0x1
    1.2.3.4.5 256.1.1.1 08.8.8.8 8.8.8.08 example.1 a.0x7f
    １２７.０.０.１ ①②⑦.⓪.⓪.① 127。0。0。1 127．0．0．1 127｡0｡0｡1 ⑴.1.1.1 １27.0.0.1 𝟏𝟐𝟕.0.0.1 ¹.1.1.1
    ١٢٧.٠.٠.١ १२७.०.०.१
    localhost LOCALHOST img.localhost ｌocalhost ⓛⓞⓒⓐⓛⓗⓞⓢⓣ loca\u017fthost.ⓛocalhost metadata。google。internal
    metadata.google.internal db.internal printer.local box.lan nas.home intranet kubernetes x.corp x.private x.home.arpa
    x.onion x.invalid x.localdomain
    [1::2::3] [::12345] [1.2.3.4] [:::]
    """


@pytest.mark.parametrize("host", NOT_PUBLIC.split())
def test_a_host_that_cannot_be_public_gets_the_one_answer(host: str) -> None:
    assert refusal(f"http://{host}/a.png") == "image_url_not_allowed"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "http:///a.png",
        "https:",
        "http:/example.com",
        "http:example.com",
        "//example.com/a.png",
        "example.com/a.png",
        " http://example.com/",
        "http://example.com/a b.png",
        "http://example.com/\r\nX: y",
        "http://example.com/\x00",
        "ht\ttp://example.com/",
        "http\u017f://example.com/",
        "http://example.com/\u200b",
        "http://local\u00adhost/",
        "http://exa\u2060mple.com/",
        "http://example.com/\u3000a",
        "http://example.com/\ud800",
        "http://example.com\\@10.0.0.1/",
        "http:\\\\10.0.0.1/",
        "http://localhost./",
        "http://example.com./",
        "http://127.0.0.1./",
        "http://.example.com/",
        "http://a..example.com/",
        "http://127%2e0%2e0%2e1/",
        "http://exam%70le.com/",
        "http://[fe80::1%25lo]/",
        "http://[fe80::1%lo]/",
        "http://[v1.x]/",
        "http://[::1/",
        "http://::1/",
        "http://[::1]x/",
        "http://example.com:80:80/",
        "http://example.com:x/",
        "http://example.com:-1/",
        "http://example.com:８０/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:123456/",
        "http://-a.example.com/",
        "http://a-.example.com/",
        "http://exa<mple.com/",
        "http://exa,mple.com/",
        "http://ex\u0301\u0302☃.-/",
        "http://" + "a" * 64 + ".com/",
        "http://" + "a." * 127 + "com/",
        "http://" + "é" * 80 + ".com/",
        "http://example.com/" + "a" * 8192,
    ],
)
def test_a_malformed_url_is_refused_as_such(url: str) -> None:
    assert refusal(url) == "invalid_image_url"


@pytest.mark.parametrize("userinfo", ["u:p@", "u@", "@", "example.com:80@", "a@b@"])
def test_user_and_password_are_refused(userinfo: str) -> None:
    assert refusal(f"http://{userinfo}example.com/") == "image_url_not_allowed"


@given(st.text(max_size=40))
def test_whatever_is_read_leaves_one_host_in_plain_ascii(rest: str) -> None:
    try:
        target = parse_target("http://" + rest)
    except UrlRefused:
        return
    assert target.host.isascii()
    assert target.url.raw_host == target.host
    assert target.url.port == target.port
    assert target.url.raw_user is None
    assert str(target.url).isascii()
    assert parse_target(str(target.url)) == target
