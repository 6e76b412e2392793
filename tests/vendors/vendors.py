"""Every vendor behind one face.

with everyone() as vendors:                     # each a checking server of its own
    models_file.write_text(vendors.models())    # a catalogue that leads to them
    vendors["spark-vision"].says("你", "好")     # all requests are answered so, until told otherwise
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from typing_extensions import override

from tests.fakes import ccai, openai, qianfan, spark
from tests.fakes.baidu import Baidu
from tests.fakes.baidu import error as baidu_error
from tests.fakes.ccai import CcaiAccount
from tests.fakes.http import Cut, Gate, Received, Reply, Step
from tests.fakes.spark import SparkAccount
from tests.fakes.upstream import AnyReply, Upstream
from tests.vendors.vendor import MIB, Trouble, Vendor, texts_of


def _stopped_at(gates: Sequence[Gate], reply: Reply) -> Reply:
    """The answer with a wait after its first words: the plugin's stream begins with an echo."""
    if not gates or len(reply.steps) < 3:
        return reply
    return Reply(reply.status, reply.headers, [*reply.steps[:2], *gates, *reply.steps[2:]], reply.body)


class Spark(Vendor):
    """As the built-in catalogue has it."""

    model, backend = "spark-vision", "spark"
    kind: ClassVar[str] = ""
    section: ClassVar[str] = ""
    troubles: ClassVar[Mapping[Trouble, int]] = {
        "filtered": 10013,
        "busy": 11202,
        "down": 10012,
        "ours": 11200,
        "refused": 10163,
    }

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(upstream)
        self.account = SparkAccount("a1b2c3d4", "spark-key", "spark-secret")

    @property
    @override
    def sections(self) -> str:
        return f"""
[backends.{self.backend}]
{self.kind}
app_id = "a1b2c3d4"
api_key = "spark-key"
api_secret = "spark-secret"
base_url = "{self.upstream.ws_url}/v2.1/image"
text_base_url = "{self.upstream.ws_url}"
{self.section}
"""

    @override
    def says(self, *words: str | Gate) -> None:
        self.upstream.otherwise(self.account.serving(spark.stream(*words)))

    @override
    def refuses(self, trouble: Trouble) -> None:
        self.upstream.otherwise(self.account.serving(spark.error(self.troubles[trouble])))

    @override
    def breaks(self, word: str) -> None:
        self.upstream.otherwise(self.account.serving([*spark.stream(word, finish=False), *spark.error(10012)]))

    @override
    def counts(self, text: str) -> tuple[int, int]:
        return spark.USAGE["prompt_tokens"], spark.USAGE["completion_tokens"]

    @override
    def pictures(self) -> list[bytes]:
        return [spark.picture_of(request) for request in self.upstream.requests]


class SparkGeneral(Spark):
    model, backend, kind = "general-vision", "spark-general", 'kind = "spark"'
    section = """
[models.general-vision]
routes = [{ backend = "spark-general", model = "general" }]
image_tokens = "spark-general"
context = 8_192
"""


class SparkText(Spark):
    model, backend, kind = "spark-ultra", "spark-ultra", 'kind = "spark"'
    section = """
[models.spark-ultra]
routes = [{ backend = "spark-ultra", model = "4.0Ultra" }]
"""
    sees = False


class Ccai(Vendor):
    model, backend = "ccai-vision", "ccai"
    max_image_bytes = 10_000_000
    troubles: ClassVar[Mapping[Trouble, str]] = {
        "busy": "CCAI.Throttling.Qpm",
        "down": "CCAI.InternalError",
        "ours": "Forbidden.RAM",
        "refused": "CCAI.ParamInvalid.IllegalParamValue",
    }

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(upstream)
        self.account = CcaiAccount("LTAIfake", "ccai-secret", workspace_id="llm-fake", app_id="app", fetches=True)

    @property
    @override
    def sections(self) -> str:
        return f"""
[backends.ccai]
kind = "ccai"
access_key_id = "LTAIfake"
access_key_secret = "ccai-secret"
workspace_id = "llm-fake"
app_id = "app"
base_url = "{self.upstream.url}"

[models.ccai-vision]
routes = [{{ backend = "ccai", model = "general-analyze-image" }}]
"""

    @override
    def says(self, *words: str | Gate) -> None:
        self.upstream.otherwise(self.account.serving(ccai.says(*words)))

    @override
    def refuses(self, trouble: Trouble) -> None:
        self.upstream.otherwise(self.account.serving(ccai.error(self.troubles[trouble])))

    @override
    def breaks(self, word: str) -> None:
        self.upstream.otherwise(self.account.serving(ccai.says(word, Cut(), finish=None)))

    @override
    def counts(self, text: str) -> tuple[int, int]:
        return 1000, len(text)

    @override
    def pictures(self) -> list[bytes]:
        return [fetched.data for fetched in self.account.fetched]

    @override
    def forget(self) -> None:
        super().forget()
        self.account.fetched.clear()


class BaiduVendor(Vendor):
    """What its two services have in common."""

    max_image_bytes = 10_000_000
    troubles: ClassVar[Mapping[Trouble, int]] = {"busy": 18, "down": 2, "ours": 6, "refused": 216100}

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(upstream)
        self.baidu = Baidu(bos_only=False, fetches=True)
        self._answer_with(self.baidu)

    def _answer_with(self, answers: Any) -> None:
        self.upstream.otherwise(answers)

    @override
    def refuses(self, trouble: Trouble) -> None:
        refusal = baidu_error(self.troubles[trouble])
        self._answer_with(lambda asked: self.baidu(asked) if asked.path == "/oauth/2.0/token" else refusal)

    @override
    def pictures(self) -> list[bytes]:
        return self.baidu.pictures

    @override
    def forget(self) -> None:
        super().forget()
        self.baidu.pictures.clear()
        self.baidu.asked.clear()


class ChatOcr(BaiduVendor):
    model, backend = "chatocr-app-vision", "chatocr-app"
    usage_source = "estimated"

    @property
    def credentials(self) -> Mapping[str, str]:
        return self.baidu.application

    @property
    @override
    def sections(self) -> str:
        pairs = "\n".join(f'{name} = "{value}"' for name, value in self.credentials.items())
        return f"""
[backends.{self.backend}]
kind = "chatocr"
endpoint = "testxxx"
base_url = "{self.upstream.url}"
bos_only = false
{pairs}

[models.{self.model}]
routes = [{{ backend = "{self.backend}", model = "uuid-chatocr" }}]
"""

    @override
    def says(self, *words: str | Gate) -> None:
        self.baidu.says = texts_of(words)
        gates = [word for word in words if isinstance(word, Gate)]
        self._answer_with(lambda asked: _stopped_at(gates, self.baidu(asked)))

    @override
    def breaks(self, word: str) -> None:
        self.baidu.says = (word, "never said")

        def failing(asked: Received) -> AnyReply:
            if asked.path != "/oauth/2.0/token":
                self.baidu.refuse(336000, place="packet")
            return self.baidu(asked)

        self._answer_with(failing)


class ChatOcrSigned(ChatOcr):
    model, backend = "chatocr-account-vision", "chatocr-account"

    @property
    @override
    def credentials(self) -> Mapping[str, str]:
        return self.baidu.account


class BaiduOcr(BaiduVendor):
    model, backend = "baidu-ocr-real-vision", "baidu-ocr-real"
    usage_source = "counted"
    streams = False
    max_image_bytes, max_side_px = 8_000_000, 4096

    @property
    @override
    def sections(self) -> str:
        return f"""
[backends.{self.backend}]
kind = "baidu_ocr"
base_url = "{self.upstream.url}"
api_key = "{self.baidu.api_key}"
secret_key = "{self.baidu.secret_key}"

[models.{self.model}]
routes = [{{ backend = "{self.backend}", model = "general" }}]
"""

    @override
    def says(self, *words: str | Gate) -> None:
        self.baidu.reads = tuple((line, 10, 20, 300, 40) for line in "".join(texts_of(words)).split("\n"))
        self._answer_with(self.baidu)


class Qianfan(Vendor):
    model, backend = "qianfan-vision", "qianfan-fake"
    max_image_bytes = 10 * MIB
    troubles: ClassVar[Mapping[Trouble, Reply]] = {
        "filtered": qianfan.error(403, "unsafe_request"),
        "busy": qianfan.error(429, "rpm_rate_limit_exceeded"),
        "down": qianfan.error(503, "server_error"),
        "ours": qianfan.error(401, "invalid_iam_token"),
        "refused": qianfan.error(400, "invalid_argument"),
    }

    @property
    @override
    def sections(self) -> str:
        return f"""
[backends.{self.backend}]
kind = "qianfan"
base_url = "{self.upstream.url}/v2"
api_key = "sk-fake"

[models.{self.model}]
routes = [{{ backend = "{self.backend}", model = "deepseek-vl2" }}]
"""

    @override
    def says(self, *words: str | Gate) -> None:
        streamed, whole = qianfan.stream(*words), qianfan.answer("".join(texts_of(words)))
        self.upstream.otherwise(lambda asked: streamed if asked.json.get("stream") else whole)

    @override
    def refuses(self, trouble: Trouble) -> None:
        self.upstream.otherwise(self.troubles[trouble])

    @override
    def breaks(self, word: str) -> None:
        steps = qianfan.stream(word).steps[:1]
        self.upstream.otherwise(Reply(200, openai.SSE, [*steps, *qianfan.error(500, "internal_error").steps]))

    @override
    def counts(self, text: str) -> tuple[int, int]:
        return qianfan.USAGE["prompt_tokens"], qianfan.USAGE["completion_tokens"]


class IflytekHttp(Vendor):
    """iFlytek's own HTTP: chunks without id, object and finish reason, no blank after `data:`, usage on the last."""

    model, backend = "iflytek-http", "iflytek-http"
    provider: ClassVar[str] = "iflytek"
    sees = False
    troubles: ClassVar[Mapping[Trouble, int]] = {"filtered": 10013, "busy": 11202, "down": 10012, "ours": 11200}
    usage: ClassVar[Mapping[str, int]] = {"prompt_tokens": 33, "completion_tokens": 7, "total_tokens": 40}

    @property
    @override
    def sections(self) -> str:
        return f"""
[backends.{self.backend}]
kind = "openai"
provider = "{self.provider}"
base_url = "{self.upstream.url}/v1"
api_key = "sk-fake"

[models.{self.model}]
routes = [{{ backend = "{self.backend}", model = "4.0Ultra" }}]
"""

    def _body(self, **fields: Any) -> dict[str, Any]:
        return {"code": 0, "message": "Success", "sid": "cha000b0001@dx1905cd86d6bb86d552", **fields}

    def _stream(self, words: tuple[str | Gate, ...], *, finish: bool = True) -> list[Step]:
        chunks: list[Step] = []
        for at, word in enumerate(words):
            if isinstance(word, Gate):
                chunks.append(word)
                continue
            choice = {"delta": {"role": "assistant", "content": word}, "index": 0}
            usage = {"usage": self.usage} if finish and at == len(words) - 1 else {}
            body = self._body(id="cha000b0001@dx1905cd86d6bb86d552", created=1763600000, choices=[choice], **usage)
            chunks.append(b"data:" + json.dumps(body, ensure_ascii=False).encode() + b"\n\n")
        return [*chunks, b"data:[DONE]\n\n"] if finish else chunks

    @override
    def says(self, *words: str | Gate) -> None:
        choice = {"message": {"role": "assistant", "content": "".join(texts_of(words))}, "index": 0}
        whole = openai.reply(self._body(choices=[choice], usage=self.usage))
        streamed = Reply(200, openai.SSE, self._stream(words))
        self.upstream.otherwise(lambda asked: streamed if asked.json.get("stream") else whole)

    @override
    def refuses(self, trouble: Trouble) -> None:
        self.upstream.otherwise(openai.reply({"error": {"message": "scripted", "code": self.troubles[trouble]}}))

    @override
    def breaks(self, word: str) -> None:
        fault = b"data:" + json.dumps({"error": {"code": 10012, "message": "EngineInternalError"}}).encode() + b"\n\n"
        self.upstream.otherwise(Reply(200, openai.SSE, [*self._stream((word,), finish=False), fault]))

    @override
    def counts(self, text: str) -> tuple[int, int]:
        return self.usage["prompt_tokens"], self.usage["completion_tokens"]


class IflytekMaas(IflytekHttp):
    """The same with pictures."""

    model, backend, provider = "maas-vision", "maas", "iflytek-maas"
    sees = True


_SPARK: tuple[type[Vendor], ...] = (Spark, SparkGeneral, SparkText, IflytekHttp, IflytekMaas)
_BAIDU: tuple[type[Vendor], ...] = (ChatOcr, ChatOcrSigned, BaiduOcr, Qianfan)
KINDS: tuple[type[Vendor], ...] = (*_SPARK, Ccai, *_BAIDU)


class Vendors(dict[str, Vendor]):
    """All of them, by model."""

    def models(self) -> str:
        """A models.toml that leads to them."""
        return "".join(vendor.sections for vendor in self.values())


@contextmanager
def everyone() -> Iterator[Vendors]:
    """Each with a server of its own."""
    with ExitStack() as life:
        yield Vendors({kind.model: kind(life.enter_context(Upstream().in_thread())) for kind in KINDS})
