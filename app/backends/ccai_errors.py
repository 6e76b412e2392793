"""The error codes of CCAI and of the platform before it, and the shapes they come in.

    {"Code", "Message", "RequestId", "HostId", "Recommend"}      the platform: signatures, accounts, throttling
    {"code", "message", "requestId"}                             the same in lower case
    {"success": false, "errorCode", "errorInfo"}                 the application, with status 200 as well

The code decides, not the status: throttling comes with 400, a missing parameter with 403.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from app.backends.error_table import ErrorRow, ErrorTable
from app.backends.openai_codes import MESSAGES, Verdict, by_status
from app.backends.openai_errors import retry_after_s
from app.core.errors import (
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendProtocolError,
    BackendRefused,
    BackendUnavailable,
)
from app.core.secret import Censor

_CODES = ("errorCode", "Code", "code")
_MESSAGES = ("errorInfo", "errorMessage", "Message", "message")
_REQUEST_IDS = ("requestId", "RequestId", "request_id")
_ECHO = "string to sign"
_SAID_CHARS = 400
_THROTTLING = "Throttling"
_JSON_FAULTS = (msgspec.MsgspecError, UnicodeError, RecursionError)

_OPERATOR = ("{}: tell the gateway's operator.", "{}：请告知网关管理员。")
_BUSY = ("Alibaba's limit on requests{} is reached: try again shortly.", "阿里云{}请求数已达上限：请稍后重试。")
_FAILED = ("Alibaba failed while answering: try again shortly.", "阿里云服务在回答时出错：请稍后重试。")


def _refused(code: str, english: str, chinese: str) -> ErrorRow:
    return ErrorRow(code, BackendRefused, english, chinese)


def _busy(code: str, english: str, chinese: str) -> ErrorRow:
    return ErrorRow(code, BackendBusy, _BUSY[0].format(english), _BUSY[1].format(chinese))


def _ours(code: str, english: str, chinese: str) -> ErrorRow:
    return ErrorRow(code, BackendMisconfigured, _OPERATOR[0].format(english), _OPERATOR[1].format(chinese))


CCAI = ErrorTable.of(
    "CCAI",
    'help.aliyun.com GeneralAnalyzeImage, error codes, and "ROA风格请求体&签名机制", read 2026-11-20',
    _refused(
        "CCAI.InvalidParam.NotExist",
        "The application does not know a parameter: check template_ids and the pictures' addresses.",
        "应用不支持某个参数：请检查 template_ids 和图片地址。",
    ),
    _refused(
        "CCAI.ParamInvalid.IllegalParamValue",
        "A parameter has a value that the application does not take: check the pictures and template_ids.",
        "应用不接受某个参数的取值：请检查图片和 template_ids。",
    ),
    _refused(
        "CCAI.ParamNotfound.MissParam",
        "A parameter that the application needs is missing: send a picture and a question.",
        "缺少必要参数：请同时提供图片和问题。",
    ),
    _busy("CCAI.Throttling.Qpm", " per minute", "每分钟"),
    _busy("CCAI.Throttling.Qps", " per second", "每秒"),
    _busy("Throttling", "", ""),
    _busy("Throttling.User", " of this account", "账号的"),
    _ours(
        "CCAI.TenantPermission.NoAuth",
        "The account may not use this workspace; it must be granted, or workspace_id is wrong",
        "该账号没有此业务空间的权限：需要授权，或 workspace_id 有误",
    ),
    _ours(
        "CCAI.IllegalPermission.NoAuth",
        "The account may not use this application; it must be granted, or app_id is wrong",
        "该账号没有此应用的权限：需要授权，或 app_id 有误",
    ),
    ErrorRow("CCAI.InternalError", BackendUnavailable, *_FAILED),
    ErrorRow("InternalError", BackendUnavailable, *_FAILED),
    ErrorRow("ServiceUnavailable", BackendUnavailable, *_FAILED),
    _ours("SignatureDoesNotMatch", "The AccessKey secret is wrong", "AccessKey Secret 有误"),
    _ours("IncompleteSignature", "The signature lacks a part", "签名不完整"),
    _ours("SignatureNonceUsed", "A request was sent twice under one signature", "同一签名被重复使用"),
    _ours("InvalidTimeStamp", "Alibaba does not take the time of the request", "阿里云不接受请求中的时间"),
    _ours("InvalidTimeStamp.Expired", "The gateway's clock is off by more than 15 minutes", "网关时钟偏差超过 15 分钟"),
    _ours("InvalidTimeStamp.Format", "The time of the request is not written as it must be", "请求时间的格式有误"),
    _ours("InvalidAccessKeyId", "The AccessKey id is not valid or is disabled", "AccessKey ID 无效或已停用"),
    _ours("InvalidAccessKeyId.NotFound", "The AccessKey id does not exist", "AccessKey ID 不存在"),
    _ours("InvalidSecurityToken", "The security token is wrong or has expired", "安全令牌（STS）有误或已过期"),
    _ours("MissingSecurityToken", "The AccessKey needs its security token", "该 AccessKey 需要配套的安全令牌（STS）"),
    _ours("Forbidden", "The account is not allowed to call this service", "该账号无权调用此服务"),
    _ours("Forbidden.RAM", "The RAM user lacks the right to call this service", "该 RAM 用户缺少调用此服务的权限"),
    _refused(
        "MissingParameter",
        "A parameter that the platform needs is missing: send a picture and a question.",
        "缺少必要参数：请同时提供图片和问题。",
    ),
)


@dataclass(frozen=True, slots=True)
class Complaint:
    """What the vendor said went wrong; each part is empty where it said nothing."""

    code: str = ""
    message: str = ""
    request_id: str = ""


def complaint_in(body: Mapping[str, Any]) -> Complaint:
    """The error in a JSON object, in any casing."""
    return Complaint(_word(body, _CODES), _word(body, _MESSAGES), _word(body, _REQUEST_IDS))


def row_of(code: str) -> ErrorRow | None:
    """The row of a code, of what stands before its last dots, or of throttling wherever that stands in it."""
    name = code
    while name:
        if name in CCAI.rows:
            return replace(CCAI.rows[name], code=code)
        name = name.rpartition(".")[0]
    return replace(CCAI.rows[_THROTTLING], code=code) if _THROTTLING in code else None


@dataclass(frozen=True, slots=True)
class ErrorReader:
    """Makes our errors of one backend's.

    Args:
        backend: its name in the catalogue.
        secrets: what must stand in no log, though the vendor repeats it.
    """

    backend: str
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def of_response(self, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
        """Reads an answer whose status is not 200; `headers` have lower-case names."""
        value = object_in(body)
        complaint = complaint_in(value) if value else Complaint(message=body.decode("utf-8", "replace"))
        wait_s = _platform_wait_s(headers)
        return self.of_complaint(complaint, status, wait_s if wait_s is not None else retry_after_s(headers))

    def of_complaint(self, complaint: Complaint, status: int = 200, wait_s: float | None = None) -> BackendError:
        """Names the class of an error.

        Args:
            status: of the HTTP answer; 200 where the error stood inside one.
        """
        row = row_of(complaint.code)
        if row is None:
            verdict: Verdict = by_status(status) or BackendProtocolError
            row = ErrorRow(complaint.code or f"HTTP {status}", verdict, *MESSAGES[verdict])
        return row.raised(backend=self.backend, detail=self._detail(complaint, status), retry_after_s=wait_s)

    def no_answer(self, detail: str, *, retryable: bool = True) -> BackendError:
        """What came is cut short, empty, broken or endless."""
        english, chinese = MESSAGES[BackendProtocolError]
        return BackendProtocolError(
            english, chinese=chinese, backend=self.backend, detail=self._without_secrets(detail), retryable=retryable
        )

    def _detail(self, complaint: Complaint, status: int) -> str:
        said = complaint.message
        if "Signature" in complaint.code:
            said = "what it says is left out: it repeats what was signed"
        elif (at := said.lower().find(_ECHO)) >= 0:
            said = said[:at] + "…"
        said = self._without_secrets(said)[:_SAID_CHARS]
        request = f" (request {complaint.request_id[:64]})" if complaint.request_id else ""
        return f"HTTP {status}: {said}{request}"

    def _without_secrets(self, text: str) -> str:
        return Censor(self.secrets)(text)


def _platform_wait_s(headers: Mapping[str, str]) -> float | None:
    """`x-acs-retry-after`, which counts milliseconds."""
    value = headers.get("x-acs-retry-after", "")
    return int(value) / 1000 if value.isascii() and value.isdecimal() and len(value) < 10 and int(value) else None


def object_in(body: bytes) -> Mapping[str, Any]:
    """The JSON object of a body, of its first `data:` line where it is framed as events; empty where there is none."""
    lines = (line for line in body.splitlines() if line.startswith(b"data:"))
    try:
        value = msgspec.json.decode(next(lines, body).removeprefix(b"data:"))
    except _JSON_FAULTS:
        return {}
    return value if isinstance(value, dict) else {}


def _word(body: Mapping[str, Any], names: tuple[str, ...]) -> str:
    values = (body.get(name) for name in names)
    return next((str(value) for value in values if isinstance(value, str | int) and value != ""), "")
