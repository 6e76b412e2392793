"""Signatures against vectors: the vendors' own, and some that their clients produced; all keys are made up."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import pytest

from app.backends.signing import acs3_authorization, bce_authorization, bce_timestamp, path_segment, spark_url

NOW = 1714970096.0  # Mon, 06 May 2024 04:34:56 GMT
SPARK_KEY = "0123456789abcdef0123456789abcdef"
SPARK_SECRET = "ZmFrZS1zZWNyZXQtZm9yLXRlc3RzLW9ubHk="  # looks like base64, but is the key as it stands


# ------------------------------------------------------------------------------------------------------------- Spark


@dataclass(frozen=True)
class Spark:
    name: str
    url: str
    signature: str
    now: float = NOW
    key: str = SPARK_KEY
    secret: str = SPARK_SECRET
    method: str = "GET"


VENDOR_KEY = "addd2272b6d8b7c8abdd79531420ca3b"
VENDOR_SECRET = "MjlmNzkzNmZkMDQ2OTc0ZDdmNGE2ZTZi"
SPARK = [
    Spark("S1", "wss://spark-api.cn-huabei-1.xf-yun.com/v2.1/image", "xsIzW2xsxcxa6KO9YWoKvjIfDX9vwvsnASSDkwa+huU="),
    Spark(
        "S2",
        "wss://spark-api.xf-yun.com/v3.5/chat",
        "bQg2gUulvhBUozcI0KJ4wVjLE2V9coJSjmGfqZVZ8Rk=",
        now=1562744143,
        key="test-key",
        secret="test-secret",
    ),
    Spark("S3", "ws://127.0.0.1:8765/v2.1/image", "jc9fMEOF/BSpVpJ5BuOIXdyhlUUVwqwi5PNRYupMFxY="),
    Spark(
        "S4, by the vendor",
        "wss://spark-api.xf-yun.com/v1.1/chat",
        "z5gHdu3pxVV4ADMyk467wOWDQ9q6BQzR3nfMTjc/DaQ=",
        now=1683283419,
        key=VENDOR_KEY,
        secret=VENDOR_SECRET,
    ),
    Spark(
        "S4 as POST",
        "https://spark-api.xf-yun.com/v1.1/chat",
        "SFd0y1XlQwsvdK2a0Xyo3wKmfsUovlavQOFPYiWanfw=",
        now=1683283419,
        key=VENDOR_KEY,
        secret=VENDOR_SECRET,
        method="POST",
    ),
    Spark(
        "S6",
        "https://spark-api.cn-huabei-1.xf-yun.com/v2.1/tti",
        "987hTJf5TJ0YuP60XVCuBhWoYGi4nHlZwW+xV76PkZk=",
        method="POST",
    ),
]


def signed_spark(vector: Spark) -> str:
    return spark_url(vector.url, api_key=vector.key, api_secret=vector.secret, now=vector.now, method=vector.method)


@pytest.mark.parametrize("vector", SPARK, ids=lambda vector: vector.name)
def test_spark_addresses_carry_the_published_signature(vector: Spark) -> None:
    query = parse_qs(urlsplit(signed_spark(vector)).query)
    origin = base64.b64decode(query["authorization"][0]).decode()
    assert origin == (
        f'api_key="{vector.key}", algorithm="hmac-sha256", headers="host date request-line", '
        f'signature="{vector.signature}"'
    )
    assert query["host"] == [urlsplit(vector.url).netloc]


def test_a_spark_address_is_the_published_one_byte_for_byte() -> None:
    assert signed_spark(SPARK[0]) == (
        "wss://spark-api.cn-huabei-1.xf-yun.com/v2.1/image?authorization="
        "YXBpX2tleT0iMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYiLCBhbGdvcml0aG09ImhtYWMtc2hhMjU2IiwgaGVhZGVycz0iaG9zdC"
        "BkYXRlIHJlcXVlc3QtbGluZSIsIHNpZ25hdHVyZT0ieHNJelcyeHN4Y3hhNktPOVlXb0t2aklmRFg5dnd2c25BU1NEa3dhK2h1VT0i"
        "&date=Mon%2C+06+May+2024+04%3A34%3A56+GMT&host=spark-api.cn-huabei-1.xf-yun.com"
    )


def test_the_vendors_own_authorization_comes_out() -> None:
    query = parse_qs(urlsplit(signed_spark(SPARK[3])).query)
    assert query["date"] == ["Fri, 05 May 2023 10:43:39 GMT"]
    assert query["authorization"] == [
        "YXBpX2tleT0iYWRkZDIyNzJiNmQ4YjdjOGFiZGQ3OTUzMTQyMGNhM2IiLCBhbGdvcml0aG09ImhtYWMtc2hhMjU2IiwgaGVhZGVycz0iaG9zdC"
        "BkYXRlIHJlcXVlc3QtbGluZSIsIHNpZ25hdHVyZT0iejVnSGR1M3B4VlY0QURNeWs0Njd3T1dEUTlxNkJRelIzbmZNVGpjL0RhUT0i"
    ]


# ------------------------------------------------------------------------------------------------------------- Baidu


@dataclass(frozen=True)
class Bce:
    """`named`: the third part of the header; `None` leaves it to the function."""

    name: str
    headers: dict[str, str]
    signature: str
    path: str = "/rpc/2.0/ai_custom/v1/wenxinworkshop/plugin/testxxx/"
    query: dict[str, str] = field(default_factory=dict)
    method: str = "POST"
    key: str = "ALTAKfakefakefakefake01"
    secret: str = "0123456789abcdef0123456789abcdef"
    timestamp: str = "2024-05-06T04:34:56Z"
    expires_s: int = 1800
    named: str | None = None


BAIDU_HEADERS = {
    "host": "bj.bcebos.com",
    "content-type": "text/plain",
    "content-length": "8",
    "content-md5": "NFzcPqhviddjRNnSOGo4rw==",
    "x-bce-date": "2015-04-27T08:23:49Z",
}
BAIDU_QUERY = {"partNumber": "9", "uploadId": "a44cc9bab11cbd156984767aad637851"}
SHORT = {"host": "aip.baidubce.com", "x-bce-date": "2024-05-06T04:34:56Z"}
LONG = {**SHORT, "content-type": "application/json"}
B1 = "d74a04362e6a848f5b39b15421cb449427f419c95a480fd6b8cf9fc783e2999e"
B1_BARE = "0558aac491bbef484d3aaa30ac1e65d4ff10daccd351f15c91e922ee4ce72690"


def by_baidu(name: str, signature: str, query: dict[str, str], named: str | None) -> Bce:
    return Bce(
        name,
        BAIDU_HEADERS,
        signature,
        path="/v1/test/myfolder/readme.txt",
        query=query,
        method="PUT",
        key="a" * 32,
        secret="b" * 32,
        timestamp="2015-04-27T08:23:49Z",
        named=named,
    )


BCE = [
    by_baidu("B1, by the vendor", B1, BAIDU_QUERY, ""),
    by_baidu("B1 with its headers named", B1, BAIDU_QUERY, None),
    by_baidu("B1 without query", B1_BARE, {}, ""),
    Bce("B2", SHORT, "973b3cee5c0763940e1dc36662bdd0b576402af24e6bf2b705c486266aea671d"),
    Bce("B3", LONG, "053ccf932dc13c0a5e84d128b9f4641825be15abcd4494e7b50ae366038a5fee"),
    Bce("B4", LONG, "f345108d321e1fbd927a7ff02654d504ca3b7b49df0dbfdee1bfe16408a9db15", expires_s=300),
    Bce("B5", LONG, "053ccf932dc13c0a5e84d128b9f4641825be15abcd4494e7b50ae366038a5fee", named=""),
    Bce(
        "B6",
        SHORT,
        "cf77a4b71479716b63d7d07e3a51f1fb6ccc21dbef4656a782468b60e95fd2c4",
        path="/rest/2.0/ocr/v1/general_basic",
        query={"text": "", "text1": "测试", "text10": "test"},
    ),
]


def signed_bce(vector: Bce, **changes: str) -> str:
    return bce_authorization(
        method=vector.method,
        path=vector.path,
        query=vector.query | changes,
        headers=vector.headers,
        access_key_id=vector.key,
        secret_access_key=vector.secret,
        timestamp=vector.timestamp,
        expires_s=vector.expires_s,
        signed_headers=vector.named,
    )


@pytest.mark.parametrize("vector", BCE, ids=lambda vector: vector.name)
def test_baidus_authorization_is_the_published_one(vector: Bce) -> None:
    names = ";".join(sorted(vector.headers)) if vector.named is None else vector.named
    head = f"bce-auth-v1/{vector.key}/{vector.timestamp}/{vector.expires_s}"
    assert signed_bce(vector) == f"{head}/{names}/{vector.signature}"


def test_baidu_signs_neither_an_authorization_in_the_query_nor_empty_headers() -> None:
    plain = BCE[3]
    assert signed_bce(plain, Authorization="x") == signed_bce(plain)
    padded = Bce(plain.name, {**SHORT, "host": " aip.baidubce.com ", "content-md5": " "}, plain.signature, named="")
    assert signed_bce(padded).endswith(f"/{plain.signature}")


@pytest.mark.parametrize("now", [NOW, NOW + 0.999])
def test_timestamps_are_whole_seconds_of_utc(now: float) -> None:
    assert bce_timestamp(now) == "2024-05-06T04:34:56Z"


# ----------------------------------------------------------------------------------------------------------- Alibaba


@dataclass(frozen=True)
class Acs:
    name: str
    signature: str
    body: bytes
    path: str = "/llm-ik1234567890RVYCKzt/ccai/app/a070a49c681f4a95a0f0123456789c35c/generalanalyzeImage"
    query: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)


ACS_HEADERS = {
    "content-type": "application/json; charset=utf-8",
    "host": "contactcenterai.cn-shanghai.aliyuncs.com",
    "x-acs-action": "GeneralAnalyzeImage",
    "x-acs-date": "2024-06-03T08:00:00Z",
    "x-acs-signature-nonce": "0123456789abcdef0123456789abcdef",
    "x-acs-version": "2024-06-03",
}
QUESTION = '{"customPrompt":"图里有什么?","imageUrls":["https://img.example.com/1.jpg"],"stream":%s}'
WHOLE, STREAM = (QUESTION % "false").encode(), (QUESTION % "true").encode()
TEMPLATES = (
    b'{"imageUrls":["https://img.example.com/1.jpg","https://img.example.com/2.png"],"stream":false,"templateIds":[34]}'
)
DIGESTS = {
    WHOLE: "972be688817a582066107a4d0cdd463efef14bbc3b7bcf2af6f125663ed5b09e",
    STREAM: "3985d6a59ad7a6f627772af16529ce8c435261ef01de328fd2465b5ad4ceec07",
    TEMPLATES: "3faf15d0f60fc2ef447fa21d89335f51ca94ab187551ed8c9daf44c3377967fe",
}
SDK = {
    "accept": "application/json",
    "user-agent": "AlibabaCloud (Linux; x86_64) Python/3.11.7 Core/0.4.3 TeaDSL/2",
    "x-acs-credentials-provider": "static_ak",
}
STS = {"x-acs-accesskey-id": "LTAI5tFakeAccessKeyId0000", "x-acs-security-token": "FakeStsToken/000=="}
ACS = [
    Acs("V1", "051d5677effcf150295c6da4b2f91a3fcd60d4d3fcc8eaa28ddd2c670cda1bc7", WHOLE),
    Acs("V2", "f09e363b7c1ad10ea55c35a0bd76889544e037d31f98e3e4ae5c44f99454467b", STREAM),
    Acs("V3", "93cd2cfab9a2530aa2fc1f76579e7c95080215dd6c858893a6975994bbefb712", WHOLE, extra=SDK),
    Acs("V4", "7ac140c4d75f312d2099ab526bce8d6eb61212965834b11d2608f0b832f06455", WHOLE, extra=STS),
    Acs(
        "V5",
        "ea585bc5f00193abce2842691bdf436b4d21e2a67b10bc12ca1041b49753f0f5",
        TEMPLATES,
        path=f"/{path_segment('a b/c+*~中')}/ccai/app/{path_segment('x y')}/generalanalyzeImage",
    ),
    Acs(
        "V6",
        "fef5b9d0e43f63359c79dbd86f62cc7f0ccfc796c94e0b26615e97f84f6dc1af",
        WHOLE,
        query={"RegionId": "cn-shanghai"},
    ),
]


@pytest.mark.parametrize("vector", ACS, ids=lambda vector: vector.name)
def test_alibabas_authorization_is_the_published_one(vector: Acs) -> None:
    headers = {**ACS_HEADERS, **vector.extra, "x-acs-content-sha256": DIGESTS[vector.body]}
    signed = acs3_authorization(
        method="POST",
        path=vector.path,
        query=vector.query,
        headers=headers,
        body=vector.body,
        access_key_id="LTAI5tFakeAccessKeyId0000",
        access_key_secret="FakeAccessKeySecret0000000000",
    )
    assert signed == (
        "ACS3-HMAC-SHA256 Credential=LTAI5tFakeAccessKeyId0000,"
        f"SignedHeaders={';'.join(sorted(headers))},Signature={vector.signature}"
    )


def test_alibabas_own_sample_comes_out() -> None:
    """V0: ECS RunInstances."""
    signed = acs3_authorization(
        method="POST",
        path="/",
        query={"RegionId": "cn-shanghai", "ImageId": "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd"},
        headers={
            "host": "ecs.cn-shanghai.aliyuncs.com",
            "x-acs-action": "RunInstances",
            "x-acs-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "x-acs-date": "2023-10-26T10:22:32Z",
            "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
            "x-acs-version": "2014-05-26",
        },
        body=b"",
        access_key_id="YourAccessKeyId",
        access_key_secret="YourAccessKeySecret",
    )
    assert signed.endswith(",Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0")


def test_a_path_segment_keeps_only_unreserved_characters() -> None:
    assert path_segment("a b/c+*~中") == "a%20b%2Fc%2B%2A~%E4%B8%AD"
