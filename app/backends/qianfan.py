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

from app.backends.base import BackendSpec, Translator
from app.backends.openai_chat import ChatOptions, ChatTranslator, capabilities
from app.backends.openai_codes import Verdict
from app.backends.providers import KNOBS, ProviderFlags, filled
from app.core.errors import (
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendRefused,
    BackendUnavailable,
    ContentFiltered,
    ContextTooLong,
)
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

# "错误码说明". `invalid_model` comes with 400 and 401, and 401 means more than bad keys: the code decides, not the
# status. The numbers are V1's, which came with status 200.
CODES: Mapping[str, Verdict] = {
    "malformed_json": BackendRefused,
    "invalid_messages": BackendRefused,
    "invalid_argument": BackendRefused,
    "invalid_image_url": BackendRefused,
    "invalid_plugin_argument": BackendRefused,
    "method_not_supported": BackendMisconfigured,
    "characters_too_long": ContextTooLong,
    "tokens_too_long": ContextTooLong,
    **dict.fromkeys(("image_url_unsafe", "system_unsafe", "user_setting_unsafe", "functions_unsafe"), ContentFiltered),
    "invalid_model": BackendMisconfigured,
    "model_offline": BackendMisconfigured,
    "no_parameter_permission": BackendMisconfigured,
    "coding_plan_api_key_not_allowed": BackendMisconfigured,
    **dict.fromkeys(("invalid_appid", "invalid_iam_token", "account_overdue", "access_denied"), BackendMisconfigured),
    **dict.fromkeys(("110", "111"), BackendMisconfigured),
    "Offline_batch_reasoning_refused": BackendBusy,
    **{
        f"{window}_rate_limit_exceeded": BackendBusy
        for window in ("rpm", "tpm", "input_tpm", "output_tpm", "user", "cluster", "cluster_rpm", "cluster_tpm")
    },
    "preemptible_rate_limit_exceeded": BackendBusy,
    **dict.fromkeys(("18", "336501", "336502"), BackendBusy),
    **dict.fromkeys(("internal_error", "dispatch_internal_error", "Internal_error", "336100"), BackendUnavailable),
    "unsafe_request": ContentFiltered,
}


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
        self._chat = ChatTranslator(backend, options, model, codes=CODES, hidden_flags=_HIDDEN_FLAGS)
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


SPEC = BackendSpec(options=QianfanOptions, capabilities=capabilities, translator=QianfanTranslator)
