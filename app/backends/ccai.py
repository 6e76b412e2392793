"""Backends of kind `ccai`: Alibaba Cloud's contact centre AI, `GeneralAnalyzeImage` of version 2024-06-03.

help.aliyun.com "GeneralAnalyzeImage - 通用图片分析" and "ROA风格请求体&签名机制", read 2026-11-20. One prompt and the
addresses of pictures go in, signed. The page bounds neither number nor form of the pictures: these bounds are our
judgement.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from typing_extensions import override

from app.backends.base import BackendOptions, BackendSpec, Capabilities, Finding, Translator
from app.backends.base_url import checked_base_url
from app.backends.ccai_decode import AnswerDecoder
from app.backends.ccai_encode import encode_request
from app.backends.ccai_errors import CCAI, ErrorReader
from app.backends.signing import acs3_authorization, bce_timestamp, path_segment
from app.core.errors import BackendError
from app.core.events import Event
from app.core.types import ChatRequest, Context, Frame, HttpCall, ImageRules

BASE_URL = "https://contactcenterai.cn-shanghai.aliyuncs.com"

_ACTION, _VERSION = "GeneralAnalyzeImage", "2024-06-03"
_DEFAULT_PORTS = {"http": 80, "https": 443}

# Ours: ten pictures, of what the vendor's other models take.
_MAX_IMAGES = 10
_RULES = ImageRules(formats=("jpeg", "png"), max_image_bytes=10_000_000, max_side_px=8192, max_pixels=16_777_216)


class CcaiOptions(BackendOptions):
    """A `kind = "ccai"` section.

    Args:
        security_token: of temporary credentials (STS), whose id begins with `STS.`.
        workspace_id: as `llm-…`. app_id: 32 hexadecimal digits.
        base_url: a path in it stays, and is signed.
        template_ids: templates of the application; they replace the question.
    """

    access_key_id: SecretStr
    access_key_secret: SecretStr
    security_token: SecretStr | None = None
    workspace_id: str
    app_id: str
    base_url: str = BASE_URL
    template_ids: tuple[int, ...] = Field(default=())

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        return checked_base_url(url)

    @property
    def host(self) -> str:
        """The value of the `host` header: with the port where it is not the scheme's own."""
        parts = urlsplit(self.base_url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        return host if parts.port in {None, _DEFAULT_PORTS[parts.scheme]} else f"{host}:{parts.port}"

    @property
    def path(self) -> str:
        """The path of calls, percent-encoded as it goes out."""
        workspace, app = path_segment(self.workspace_id), path_segment(self.app_id)
        return f"{urlsplit(self.base_url).path}/{workspace}/ccai/app/{app}/generalanalyzeImage"

    @property
    def url(self) -> str:
        return f"{urlsplit(self.base_url).scheme}://{urlsplit(self.base_url).netloc}{self.path}"


class CcaiTranslator(Translator):
    """One request to an application.

    Args:
        backend: its name in the catalogue.
        model: a name of the operator's choice: the application knows which model it asks.
    """

    def __init__(self, backend: str, options: CcaiOptions, model: str) -> None:
        self.backend_request_id: str | None = None
        self.notices: list[str] = []
        self._options = options
        self._errors = ErrorReader(backend, options.secrets)
        self._answer = AnswerDecoder(self._errors, streamed=True)

    @override
    def call(self, request: ChatRequest, context: Context) -> HttpCall:
        if request.max_output_tokens is not None:
            self.notices.append("max_tokens dropped")
        self._answer = AnswerDecoder(self._errors, streamed=request.stream)
        body = encode_request(request, self._options.template_ids)
        return HttpCall(
            method="POST",
            url=self._options.url,
            headers=self._signed(body, context),
            body=body,
            framing="sse" if request.stream else "json",
            cumulative=request.stream,
        )

    def _signed(self, body: bytes, context: Context) -> dict[str, str]:
        options = self._options
        headers = {
            "host": options.host,
            "content-type": "application/json; charset=utf-8",
            "x-acs-action": _ACTION,
            "x-acs-version": _VERSION,
            "x-acs-date": bce_timestamp(context.now),
            "x-acs-signature-nonce": context.nonce,
            "x-acs-content-sha256": hashlib.sha256(body).hexdigest(),
        }
        if options.security_token is not None:
            headers["x-acs-accesskey-id"] = options.access_key_id.get_secret_value()
            headers["x-acs-security-token"] = options.security_token.get_secret_value()
        authorization = acs3_authorization(
            method="POST",
            path=options.path,
            query={},
            headers=headers,
            body=body,
            access_key_id=options.access_key_id.get_secret_value(),
            access_key_secret=options.access_key_secret.get_secret_value(),
        )
        return {**headers, "authorization": authorization}

    @override
    def receive(self, frame: Frame) -> Iterable[Event]:
        try:
            return self._answer.receive(frame)
        finally:
            self.backend_request_id = self._answer.request_id

    @override
    def receive_eof(self) -> Iterable[Event]:
        return self._answer.receive_eof()

    @override
    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
        return self._errors.of_response(status, headers, body)


_SHAPES: Sequence[tuple[str, re.Pattern[str], str, str]] = (
    # option, shape, what is wrong in English and Chinese
    (
        "access_key_id",
        re.compile(r"(LTAI|STS\.)[0-9A-Za-z]{8,}"),
        "access_key_id does not look like an AccessKey id (LTAI… or STS.…): copy it from the RAM console",
        "access_key_id 不像 AccessKey ID（应以 LTAI 或 STS. 开头）：请从 RAM 控制台复制",
    ),
    (
        "workspace_id",
        re.compile(r"llm-[0-9A-Za-z]+"),
        "workspace_id does not look like a workspace id (llm-…): copy it from the Model Studio console",
        "workspace_id 不像业务空间 ID（应以 llm- 开头）：请从百炼控制台复制",
    ),
    (
        "app_id",
        re.compile(r"[0-9a-f]{32}"),
        "app_id does not look like an application id (32 hexadecimal digits): copy it from the application's page",
        "app_id 不像应用 ID（应为 32 位十六进制字符）：请从应用页面复制",
    ),
)


def _capabilities(options: CcaiOptions, model: str) -> Capabilities:
    return Capabilities(
        streaming=True,
        system_role=True,
        max_images=_MAX_IMAGES,
        needs_image=True,
        image_input="url",
        image_rules=_RULES,
        extra=frozenset({"template_ids"}),
    )


def _inspect(options: CcaiOptions, model: str) -> Iterator[Finding]:
    key_id = options.access_key_id.get_secret_value()
    values = {"access_key_id": key_id, "workspace_id": options.workspace_id, "app_id": options.app_id}
    faults = [
        Finding("credentials", False, english, chinese)
        for name, shape, english, chinese in _SHAPES
        if not shape.fullmatch(values[name])
    ]
    temporary = key_id.startswith("STS.")
    if temporary and options.security_token is None:
        english = "access_key_id is a temporary one (STS): set security_token as well"
        faults.append(
            Finding("credentials", False, english, "access_key_id 是临时凭证（STS）：还需设置 security_token")
        )
    if options.security_token is not None and not temporary:
        english = "security_token goes with a temporary access_key_id (STS.…): take it out, or set that id"
        chinese = "security_token 只与临时 access_key_id（STS.…）配套：请去掉，或改用该 ID"
        faults.append(Finding("credentials", False, english, chinese))
    yield from faults
    if not faults:
        english = "AccessKey, workspace and application have the right shape"
        yield Finding("credentials", True, english, "AccessKey、业务空间 ID 和应用 ID 格式正确")
    english = "the application decides which model answers; the route's model is a name only"
    yield Finding("model", True, english, "由应用决定使用哪个模型；路由中的 model 只是名称")


def _addresses_of(options: CcaiOptions, model: str) -> tuple[str]:
    return (options.url,)


SPEC = BackendSpec(
    options=CcaiOptions,
    capabilities=_capabilities,
    translator=CcaiTranslator,
    errors=(CCAI,),
    addresses=_addresses_of,
    inspect=_inspect,
)
