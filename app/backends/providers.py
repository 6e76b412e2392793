"""How OpenAI-compatible services differ from OpenAI, as data.

A row states only what differs; everything else is the default. A `[backends.NAME]` section of models.toml may override
any flag. Sources, all read 2026-11-20: Model Studio "Qwen API reference" and "vision" (help.aliyun.com), bigmodel.cn
"GLM-4V", Volcengine Ark "图片理解" and "对话(Chat) API", docs.siliconflow.cn "vision", docs.ollama.com "OpenAI
compatibility", xfyun.cn/doc/spark, and the issue trackers of vLLM, SGLang, Ollama and LM Studio. Not on these pages,
but our judgement: who holds answers to a JSON schema, the names of stream-only models, Zhipu's single stop word, the
knobs of local servers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, fields
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import Field, field_validator

from app.backends.base import BackendOptions, ImageInput
from app.core.types import ImageRules

KNOBS = frozenset(
    {"temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "user"}
)
"""Optional request fields that go out under their own names. `logprobs` is not among them: no event carries them."""


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class ProviderFlags(BackendOptions):
    """What a service takes and how it wants it written. Globs match the lower-cased name of a model.

    Args:
        vision: false for a text-only service.
        max_images: pictures per request; `model_max_images` overrides it by glob, the first match counts.
        image_input: whether pictures travel as bytes, addresses or either; always addresses for `url_only` globs.
        max_url_bytes: addresses of pictures that are longer go out as bytes.
        raw_base64: globs of models that take base64 without `data:image/…;base64,` before it.
        details: the values of `detail` that are passed on; others are left out.
        no_system_role: globs of models whose system text is put before the first question instead.
        alternate: messages must alternate between user and assistant; neighbours of one role are joined.
        stream_only: globs of models that refuse whole answers; these are asked to stream and folded here.
        stream_usage: usage of a stream must be asked for, with `stream_options`.
        max_tokens_field: what the bound on the answer is called.
        ranges: bounds of numeric fields, both inclusive; values beyond are clamped.
        decimals: how many of `temperature` and `top_p` count.
        stop_as_array: false where a single stop word must be a plain string.
        tool_choices: what `tool_choice` may be; `named` stands for a function by name.
        extra: vendor parameters that callers may pass, at the top level; `image_extra`: beside each picture.
        headers: added to every request.
    """

    vision: bool = True
    max_images: int = 16
    model_max_images: dict[str, int] = Field(default_factory=dict)
    image_rules: ImageRules = Field(default_factory=ImageRules)
    image_input: ImageInput = "bytes"
    url_only: tuple[str, ...] = ()
    max_url_bytes: int | None = None
    raw_base64: tuple[str, ...] = ()
    details: frozenset[str] = frozenset({"low", "high"})
    system_role: bool = True
    no_system_role: tuple[str, ...] = ()
    alternate: bool = False
    streaming: bool = True
    stream_only: tuple[str, ...] = ()
    stream_usage: bool = True
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    max_output_tokens: int | None = None
    knobs: frozenset[str] = KNOBS
    ranges: dict[str, tuple[int | float, int | float]] = Field(default_factory=dict)
    decimals: int | None = None
    stop_as_array: bool = True
    stop_max: int = 4
    stop_max_chars: int | None = None
    tools: bool = True
    tool_choices: frozenset[str] = frozenset({"none", "auto", "required", "named"})
    json_schema: bool = True
    json_object: bool = True
    reasoning: bool = True
    extra: frozenset[str] = frozenset()
    image_extra: frozenset[str] = frozenset()
    headers: dict[str, str] = Field(default_factory=dict, repr=False)

    @field_validator("image_rules", mode="before")
    @classmethod
    def _knows_rules(cls, rules: Any) -> Any:
        known = {field.name for field in fields(ImageRules)}
        if isinstance(rules, dict) and not rules.keys() <= known:
            raise ValueError(f"no such rule: {', '.join(sorted(rules.keys() - known))}")
        return rules

    @field_validator("headers")
    @classmethod
    def _can_be_sent(cls, headers: dict[str, str]) -> dict[str, str]:
        if not all(_HEADER_NAME.fullmatch(name) and value.isprintable() for name, value in headers.items()):
            raise ValueError('must be names of headers with one line each, as { x-tenant = "env::TENANT" }')
        return headers

    def images_of(self, model: str) -> int:
        """How many pictures one request to `model` may hold."""
        if not self.vision:
            return 0
        for glob, count in self.model_max_images.items():
            if matches(model, (glob,)):
                return count
        return self.max_images

    def takes_system(self, model: str) -> bool:
        return self.system_role and not matches(model, self.no_system_role)

    def input_of(self, model: str) -> ImageInput:
        return "url" if matches(model, self.url_only) else self.image_input


def matches(model: str, globs: Iterable[str]) -> bool:
    name = model.lower()
    return any(fnmatchcase(name, glob) for glob in globs)


def filled(section: dict[str, Any], row: ProviderFlags) -> dict[str, Any]:
    """A section with the row's flags under it; single image rules are replaced, not the whole set."""
    merged = {name: getattr(row, name) for name in row.model_fields_set} | section
    rules = section.get("image_rules")
    if isinstance(rules, dict):
        merged["image_rules"] = asdict(row.image_rules) | rules
    return merged


_MIB = 1024 * 1024
_THINKING = frozenset({"enable_thinking", "thinking_budget"})
_LOCAL = frozenset({"top_k", "min_p", "repetition_penalty", "chat_template_kwargs", "mm_processor_kwargs"})

PROVIDERS: dict[str, ProviderFlags] = {
    "generic": ProviderFlags(),
    "dashscope": ProviderFlags(
        # A picture may be 10 MB encoded, which is 7.5 MiB less its prefix.
        image_rules=ImageRules(
            formats=("jpeg", "png", "webp", "bmp"),
            max_image_bytes=7 * _MIB,
            max_side_px=None,
            min_side_px=10,
            max_pixels=16_777_216,
            max_aspect_ratio=200,
        ),
        details=frozenset(),
        stream_only=("qvq*", "*omni*"),
        # temperature is [0, 2) and top_p (0, 1].
        ranges={
            "temperature": (0, 1.99),
            "top_p": (0.001, 1),
            "presence_penalty": (-2, 2),
            "seed": (0, 2**31 - 1),
        },
        knobs=KNOBS - {"frequency_penalty", "logit_bias", "user"},
        json_schema=False,
        extra=_THINKING | {"vl_high_resolution_images", "top_k", "repetition_penalty", "enable_search"},
        image_extra=frozenset({"min_pixels", "max_pixels"}),
    ),
    "zhipu": ProviderFlags(
        max_images=5,
        model_max_images={"glm-4v-flash*": 1},
        image_rules=ImageRules(max_image_bytes=5 * _MIB, max_side_px=6000, min_side_px=1, max_pixels=36_000_000),
        url_only=("glm-4v-flash*",),
        raw_base64=("glm-4v*",),
        details=frozenset(),
        no_system_role=("glm-4v*",),
        stream_usage=False,
        # top_p may be 0 on the page of GLM-4V, 0.01 on later ones.
        ranges={"temperature": (0, 1), "top_p": (0.01, 1)},
        decimals=2,
        knobs=frozenset({"temperature", "top_p", "stop"}),
        stop_max=1,
        tool_choices=frozenset({"auto"}),
        json_schema=False,
        json_object=False,
        extra=frozenset({"do_sample", "request_id", "user_id", "thinking"}),
    ),
    "siliconflow": ProviderFlags(
        # Here `auto` means low and silence means high, so `auto` is left out.
        json_schema=False,
        extra=_THINKING | {"top_k", "min_p"},
    ),
    "ark": ProviderFlags(
        image_rules=ImageRules(
            formats=("jpeg", "png", "gif", "webp", "bmp"),
            max_image_bytes=10_000_000 - 1,
            max_side_px=None,
            min_side_px=15,
            max_pixels=36_000_000,
            min_pixels=196,
        ),
        # Here silence means low, unlike OpenAI's `auto`; a caller who wants more says `high`.
        knobs=KNOBS - {"presence_penalty", "frequency_penalty", "user"},
        extra=frozenset({"thinking", "reasoning_effort"}),
    ),
    # «星火认知大模型http接口文档»: no id, object or finish reason, and usage on the last chunk unasked. System text
    # stands first, and only before Max and Ultra; then the turns alternate.
    "iflytek": ProviderFlags(
        vision=False,
        no_system_role=("lite", "generalv2", "generalv3", "pro-128k"),
        alternate=True,
        stream_usage=False,
        # temperature is [0, 2] on the newest page, (0, 1] on older ones
        ranges={
            "temperature": (0.01, 2),
            "top_p": (0.001, 1),
            "presence_penalty": (-2, 2),
            "frequency_penalty": (-2, 2),
        },
        knobs=frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty", "user"}),
        json_schema=False,
        extra=frozenset({"top_k", "suppress_plugin"}),
    ),
    # «图像理解_HTTP协议» of iFlytek's MaaS: pictures as data URLs; bounds of pictures are our judgement.
    "iflytek-maas": ProviderFlags(
        image_rules=ImageRules(max_image_bytes=4 * _MIB, max_side_px=12_800, max_pixels=36_000_000 - 1),
        details=frozenset(),
        ranges={"temperature": (0.01, 1)},
        knobs=frozenset({"temperature", "user"}),
        tools=False,
        json_schema=False,
        json_object=False,
        extra=frozenset({"top_k", "lora_id", "search_disable"}),
    ),
    # Older servers take one picture unless started with --limit-mm-per-prompt: set `max_images = 1` for these.
    "vllm": ProviderFlags(extra=_LOCAL | {"guided_json", "guided_choice", "guided_regex"}),
    "sglang": ProviderFlags(extra=_LOCAL),
    "ollama": ProviderFlags(details=frozenset(), knobs=KNOBS - {"logit_bias", "user"}),
    "lmstudio": ProviderFlags(details=frozenset(), json_object=False, extra=frozenset({"top_k", "repeat_penalty"})),
    # Whatever stands behind the aggregator decides; its proxy drops or translates what it must.
    "litellm": ProviderFlags(),
}
