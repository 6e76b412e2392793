"""Backends of kind `spark`: iFlytek Spark over WebSocket, «图片理解» and the text models.

xfyun.cn/doc/spark, ImageUnderstanding.html, general_url_authentication.html and Web.html, and iFlytek's page of its
picture skill, read 2026-11-20. One connection, one question: an address signed for the second it is opened in, one text
frame with the whole request, then frames until the answer ends. Errors come as a frame without payload, before or after
text; trouble with credentials as an HTTP status at the handshake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from typing_extensions import override

from app.backends.base import BackendOptions, BackendSpec, Capabilities, Translator
from app.backends.base_url import checked_base_url
from app.backends.signing import spark_url
from app.backends.spark_decode import AnswerDecoder
from app.backends.spark_encode import DEFAULT_OUTPUT_TOKENS, encode_request
from app.backends.spark_errors import SPARK
from app.backends.spark_inspect import inspect
from app.backends.spark_models import IMAGE_PATH, SparkModel, model_of
from app.backends.spark_refusals import ErrorReader
from app.core.errors import BackendError
from app.core.events import Event
from app.core.types import ChatRequest, Context, Frame, ImageRules, WsCall

BASE_URL = f"wss://spark-api.cn-huabei-1.xf-yun.com{IMAGE_PATH}"
TEXT_BASE_URL = "wss://spark-api.xf-yun.com"

_MAX_UID_CHARS = 32

_RULES = ImageRules(
    formats=("jpeg", "png"),
    max_image_bytes=4 * 1024 * 1024,
    max_side_px=12_800,
    min_side_px=1,
    max_pixels=6000 * 6000 - 1,  # both bounds are exclusive
    min_pixels=50 * 50 + 1,
)


class SparkOptions(BackendOptions):
    """A `kind = "spark"` section.

    Args:
        base_url: of the picture models, as `wss://host/v2.1/image`; the path may be left out.
        text_base_url: what stands before the path of a text model.
        auditing: how strictly content is checked; left out of requests where empty.
        top_k: of requests that name none, 1 to 6; the service's own where absent.
    """

    app_id: str
    api_key: SecretStr
    api_secret: SecretStr
    base_url: str = BASE_URL
    text_base_url: str = TEXT_BASE_URL
    auditing: str | None = "default"
    top_k: Annotated[int, Field(ge=1, le=6)] | None = None

    @field_validator("base_url", "text_base_url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        return checked_base_url(url, "ws")

    @field_validator("base_url")
    @classmethod
    def _has_path(cls, url: str) -> str:
        return url if urlsplit(url).path else f"{url}{IMAGE_PATH}"

    def address_of(self, model: SparkModel) -> str:
        """Where a model is asked, without the signature."""
        if model.sees:
            return self.base_url
        if model.origin is not None and self.text_base_url == TEXT_BASE_URL:
            return f"{model.origin}{model.path}"
        return f"{self.text_base_url}{model.path}"


class SparkTranslator(Translator):
    """One request to Spark.

    Args:
        backend: its name in the catalogue.
        model: the domain, which decides the address as well.
    """

    def __init__(self, backend: str, options: SparkOptions, model: str) -> None:
        self.backend_request_id: str | None = None
        self.notices: list[str] = []
        self._options = options
        self._model = model_of(model)
        self._errors = ErrorReader(backend, options.secrets)
        self._answer = AnswerDecoder(self._errors, call_id_prefix="call_")

    @override
    def call(self, request: ChatRequest, context: Context) -> WsCall:
        options = self._options
        self._answer = AnswerDecoder(self._errors, call_id_prefix=f"call_{context.nonce[:24]}")
        message = encode_request(
            request,
            self._model,
            # one user's questions are answered one at a time, so that each is another's
            header={"app_id": options.app_id, "uid": context.nonce[:_MAX_UID_CHARS]},
            auditing=options.auditing,
            top_k=options.top_k,
            notices=self.notices,
        )
        url = spark_url(
            options.address_of(self._model),
            api_key=options.api_key.get_secret_value(),
            api_secret=options.api_secret.get_secret_value(),
            now=context.now,
        )
        return WsCall(url, (message,))

    @override
    def receive(self, frame: Frame) -> Iterable[Event]:
        try:
            return self._answer.receive(frame)
        finally:
            self.backend_request_id = self._answer.sid

    @override
    def receive_eof(self) -> Iterable[Event]:
        return self._answer.receive_eof()

    @override
    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
        return self._errors.of_handshake(status, headers, body)


def _capabilities(options: SparkOptions, name: str) -> Capabilities:
    model = model_of(name)
    return Capabilities(
        streaming=True,
        system_role=model.system_role,
        tools=model.tools,
        reasoning=model.reasoning,
        max_images=1 if model.sees else 0,
        needs_image=model.sees,
        image_rules=_RULES,
        knobs=frozenset({"temperature"}),
        extra=frozenset({"top_k"}),
        max_output_tokens=model.max_output_tokens,
        conversation_tokens=model.context_tokens,
        default_output_tokens=DEFAULT_OUTPUT_TOKENS,
    )


def _addresses(options: SparkOptions, name: str) -> Iterable[str]:
    return (options.address_of(model_of(name)),)


SPEC = BackendSpec(
    options=SparkOptions,
    capabilities=_capabilities,
    translator=SparkTranslator,
    errors=(SPARK,),
    addresses=_addresses,
    inspect=inspect,
)
