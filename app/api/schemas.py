"""The body of a chat request as clients write it: OpenAI's fields, typed, with `null` meaning absent.

Every field OpenAI types is checked, used or not. Fields outside OpenAI's are not listed here; `api.convert` keeps them
aside for backends whose allow-list names them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

MAX_MESSAGES = 2048
MAX_PARTS = 512
MAX_TOOLS = 128
_INT_32 = 2**31 - 1
_INT_64 = 2**63 - 1

Detail: TypeAlias = Literal["auto", "low", "high", "original"]
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]
TokenCount: TypeAlias = Annotated[int, Meta(ge=1, le=_INT_32)]


class Wire(Struct):
    """What a caller wrote; it shows none of it."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"


class ImageUrl(Wire):
    url: str
    detail: Detail | None = None


class TextPart(Wire, tag="text", tag_field="type"):
    text: str


class ImagePart(Wire, tag="image_url", tag_field="type"):
    image_url: ImageUrl | str


class RefusalPart(Wire, tag="refusal", tag_field="type"):
    refusal: str


class AudioPart(Wire, tag="input_audio", tag_field="type"):
    input_audio: dict[str, Any]


class FilePart(Wire, tag="file", tag_field="type"):
    file: dict[str, Any]


class VideoPart(Wire, tag="video_url", tag_field="type"):
    video_url: dict[str, Any] | str


Part: TypeAlias = TextPart | ImagePart | RefusalPart | AudioPart | FilePart | VideoPart


class CalledFunction(Wire):
    name: str
    arguments: str


class ToolCall(Wire):
    id: str
    function: CalledFunction
    type: str = "function"


class Message(Wire):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[Part], Meta(max_length=MAX_PARTS)] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: CalledFunction | None = None
    tool_call_id: str | None = None
    refusal: str | None = None


class StreamOptions(Wire):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Function(Wire):
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Wire):
    type: str
    function: Function | None = None


class FunctionName(Wire):
    name: str


class NamedToolChoice(Wire):
    type: str
    function: FunctionName | None = None


class JsonSchema(Wire):
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatBody(Wire):
    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokenCount | None = None
    max_completion_tokens: TokenCount | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    seed: Annotated[int, Meta(ge=-_INT_64 - 1, le=_INT_64)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    user: str | None = None
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    verbosity: str | None = None
    modalities: list[str] | None = None
    prediction: dict[str, Any] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    audio: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    functions: Annotated[list[Function], Meta(max_length=MAX_TOOLS)] | None = None
    function_call: Literal["none", "auto"] | FunctionName | None = None
