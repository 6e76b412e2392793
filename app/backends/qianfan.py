"""Backends of kind `qianfan`: Baidu Qianfan V2, `POST /v2/chat/completions`.

Read 2026-11-20 on cloud.baidu.com: qianfan-api "图像理解" (2025-02-13), "文本生成" (2025-12-23), "视觉理解", "通用说明"
and "错误码说明". The wire is OpenAI's but for: `finish_reason: normal`; safety marks (`flag`, `ban_round`) on answers
of status 200; three shapes of errors; 401 for an unknown model; stop words only as an array, at most four of at most 20
characters; messages in strict turns; addresses of pictures up to 1 024 bytes, so that pictures travel as bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import SecretStr, model_validator
from typing_extensions import override

from app.backends.base import BackendSpec, Finding, Translator
from app.backends.openai_chat import ChatOptions, ChatTranslator, addresses, capabilities
from app.backends.providers import KNOBS, ProviderFlags, filled
from app.backends.qianfan_errors import QIANFAN
from app.core.errors import BackendBusy, BackendError
from app.core.events import Event
from app.core.types import ChatRequest, Context, Frame, HttpCall, ImageRules

BASE_URL = "https://qianfan.baidubce.com/v2"

# "文本生成": 3, banned and not to be displayed; 4, to be withdrawn. 1 and 2 may be displayed.
_HIDDEN_FLAGS = (3, 4)
_WINDOW_S = 60.0

FLAGS = ProviderFlags(
    image_rules=ImageRules(
        formats=("jpeg", "png", "bmp"), max_image_bytes=10_000_000, max_side_px=5999, min_side_px=5, max_pixels=None
    ),
    details=frozenset(),  # only ERNIE 4.5 knows it, and `auto` is its default
    max_url_bytes=1024,  # a longer one is not fetched
    alternate=True,
    knobs=KNOBS - {"logit_bias"},
    ranges={"temperature": (0, 2), "top_p": (0, 1), "seed": (1, 2**31 - 2)},
    stop_max=4,
    stop_max_chars=20,
    extra=frozenset(
        {"penalty_score", "repetition_penalty", "web_search", "enable_thinking", "thinking_budget"}
        | {"thinking_strategy", "reasoning_effort"}
    ),
)


class QianfanOptions(ChatOptions):
    """A `kind = "qianfan"` section.

    Args:
        api_key: as `bce-v3/ALTAK-…/…`.
        app_id: the application to book on; the account's default where absent.
    """

    base_url: str = BASE_URL
    api_key: SecretStr
    app_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_from_row(cls, section: Any) -> Any:
        return filled(section, FLAGS)


@dataclass(frozen=True, slots=True)
class RateHeaders:
    """What is left of this minute, by the `X-Ratelimit-Remaining-*` headers; `None` where one is absent."""

    requests: int | None
    input_tokens: int | None
    output_tokens: int | None

    @property
    def used_up(self) -> bool:
        return 0 in (self.requests, self.input_tokens, self.output_tokens)


def rate_headers(headers: Mapping[str, str]) -> RateHeaders:
    """Reads the rate headers; `headers` have lower-case names."""

    def remaining(what: str) -> int | None:
        value = headers.get(f"x-ratelimit-remaining-{what}", "")
        return int(value) if value.isascii() and value.isdecimal() and len(value) < 16 else None

    return RateHeaders(remaining("requests"), remaining("input-tokens"), remaining("output-tokens"))


class QianfanTranslator(Translator):
    """One request to Qianfan: the OpenAI translator with Baidu's tables, and what only Baidu has."""

    def __init__(self, backend: str, options: QianfanOptions, model: str) -> None:
        self._app_id = options.app_id
        self._chat = ChatTranslator(backend, options, model, codes=QIANFAN.rows, hidden_flags=_HIDDEN_FLAGS)
        self.backend_request_id: str | None = None
        self.notices: list[str] = self._chat.notices

    @override
    def call(self, request: ChatRequest, context: Context) -> HttpCall:
        call = self._chat.call(request, context)
        if self._app_id is None:
            return call
        return replace(call, headers={**call.headers, "appid": self._app_id})

    @override
    def receive(self, frame: Frame) -> Iterable[Event]:
        try:
            return self._chat.receive(frame)
        finally:
            self.backend_request_id = self._chat.backend_request_id

    @override
    def receive_eof(self) -> Iterable[Event]:
        return self._chat.receive_eof()

    @override
    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
        error = self._chat.refused(status, headers, body)
        if isinstance(error, BackendBusy) and error.retry_after_s is None and rate_headers(headers).used_up:
            error.retry_after_s = _WINDOW_S  # "文本生成": what remains is refilled within the minute
        return error


def _inspect(options: QianfanOptions, model: str) -> Iterable[Finding]:
    if options.api_key.get_secret_value().startswith("bce-v3/"):
        yield Finding("credentials", True, "the API key is of the form bce-v3/…", "API Key 格式正确（bce-v3/…）")
    else:
        yield Finding(
            "credentials",
            False,
            "the API key does not begin with bce-v3/: copy it whole from Qianfan's console, API Key page",
            "API Key 不以 bce-v3/ 开头：请在千帆控制台 API Key 页完整复制",
        )


SPEC = BackendSpec(
    options=QianfanOptions,
    capabilities=capabilities,
    translator=QianfanTranslator,
    errors=(QIANFAN,),
    addresses=addresses,
    inspect=_inspect,
)
