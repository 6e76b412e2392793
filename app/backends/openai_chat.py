"""Backends of kind `openai`: any service that speaks OpenAI's chat completions.

The wire is "Chat Completions" of the OpenAI API specification 2.3.0; what each service does otherwise is data
(`app/backends/providers.py`, `app/backends/openai_codes.py`, which name the vendors' pages, read 2026-11-20).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from pydantic import SecretStr, field_validator, model_validator
from typing_extensions import override

from app.backends.base import BackendSpec, Capabilities, Translator
from app.backends.error_table import ErrorRow
from app.backends.openai_codes import CODES, Verdict
from app.backends.openai_decode import AnswerDecoder
from app.backends.openai_encode import encode_request
from app.backends.openai_errors import ErrorReader
from app.backends.providers import PROVIDERS, ProviderFlags, filled, matches
from app.core.errors import BackendError
from app.core.events import Event
from app.core.types import ChatRequest, Context, Frame, HttpCall

_KEY_MIN_CHARS = 12
"""Values of headers that are shorter are words, not keys."""


class ChatOptions(ProviderFlags):
    """What every section of an OpenAI-like backend says.

    Args:
        base_url: what stands before `/chat/completions`.
        api_key: sent as a bearer token; local servers need none.
    """

    base_url: str
    api_key: SecretStr | None = None

    @cached_property
    @override
    def secrets(self) -> tuple[str, ...]:
        keys = (value for value in self.headers.values() if len(value) >= _KEY_MIN_CHARS)
        user_info = self.base_url.partition("://")[2].partition("/")[0].rpartition("@")[0]  # sent as HTTP Basic
        return (*super().secrets, *keys, user_info, unquote(user_info), unquote(user_info.partition(":")[2]))


class OpenAIOptions(ChatOptions):
    """A `kind = "openai"` section.

    Args:
        provider: a row of `app.backends.providers.PROVIDERS`; each of its flags can be set anew in the section.
    """

    provider: str = "generic"

    @model_validator(mode="before")
    @classmethod
    def _fill_from_row(cls, section: Any) -> Any:
        return filled(section, PROVIDERS.get(str(section.get("provider", "generic")), PROVIDERS["generic"]))

    @field_validator("provider")
    @classmethod
    def _is_known(cls, provider: str) -> str:
        if provider not in PROVIDERS:
            raise ValueError(f"no such provider; known are {', '.join(sorted(PROVIDERS))}")
        return provider


class ChatTranslator(Translator):
    """One request to an OpenAI-like backend.

    Args:
        backend: its name in the catalogue.
        model: the backend's own name of the model.
        codes: its error codes.
        hidden_flags: values of a choice's `flag` after which nothing may be shown.
    """

    def __init__(
        self,
        backend: str,
        options: ChatOptions,
        model: str,
        *,
        codes: Mapping[str, Verdict | ErrorRow],
        hidden_flags: tuple[int, ...] = (),
    ) -> None:
        self.backend_request_id: str | None = None
        self.notices: list[str] = []
        self._options = options
        self._model = model
        self._hidden_flags = hidden_flags
        self._key = options.api_key.get_secret_value() if options.api_key is not None else ""
        self._errors = ErrorReader(backend, codes, options.secrets)
        self._decoder = self._decoder_for("")

    @override
    def call(self, request: ChatRequest, context: Context) -> HttpCall:
        options = self._options
        stream = options.streaming and (request.stream or matches(self._model, options.stream_only))
        self._decoder = self._decoder_for(context.nonce)
        headers = {
            "content-type": "application/json",
            **({"authorization": f"Bearer {self._key}"} if self._key else {}),
            **options.headers,
        }
        return HttpCall(
            method="POST",
            url=f"{options.base_url.rstrip('/')}/chat/completions",
            headers=headers,
            body=encode_request(request, options, stream=stream, notices=self.notices),
            framing="sse" if stream else "json",
        )

    def _decoder_for(self, nonce: str) -> AnswerDecoder:
        return AnswerDecoder(self._errors, call_id_prefix=f"call_{nonce[:24]}", hidden_flags=self._hidden_flags)

    @override
    def receive(self, frame: Frame) -> Iterable[Event]:
        try:
            return self._decoder.receive(frame)
        finally:
            self.backend_request_id = self._decoder.response_id

    @override
    def receive_eof(self) -> Iterable[Event]:
        return self._decoder.receive_eof()

    @override
    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
        return self._errors.of_response(status, headers, body)


def capabilities(options: ProviderFlags, model: str) -> Capabilities:
    """What a model can do behind these flags."""
    return Capabilities(
        streaming=options.streaming,
        system_role=options.takes_system(model),
        tools=options.tools,
        json_schema=options.json_schema,
        json_object=options.json_object,
        reasoning=options.reasoning,
        max_images=options.images_of(model),
        image_input=options.input_of(model),
        image_rules=options.image_rules,
        knobs=options.knobs,
        extra=options.extra | options.image_extra,
        max_output_tokens=options.max_output_tokens,
    )


def addresses(options: ChatOptions, model: str) -> Iterable[str]:
    """Where its calls go."""
    return (options.base_url,)


def _translator(backend: str, options: OpenAIOptions, model: str) -> ChatTranslator:
    return ChatTranslator(backend, options, model, codes=CODES.get(options.provider, {}))


SPEC = BackendSpec(options=OpenAIOptions, capabilities=capabilities, translator=_translator, addresses=addresses)
