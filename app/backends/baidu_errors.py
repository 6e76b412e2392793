"""Baidu's error codes: of its AI services, of its OCR, of its cloud as a whole, and of its tokens.

Codes of the AI services come with status 200, as `{"error_code", "error_msg"}`. What the cloud says of a signature
comes with another status, as `{"code", "message", "requestId"}` or in the headers `X-Bce-Error-Code` and
`X-Bce-Error-Message`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from app.backends.error_table import ErrorRow, ErrorTable
from app.backends.openai_errors import retry_after_s
from app.core.errors import (
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendProtocolError,
    BackendRefused,
    BackendUnavailable,
    BackendUsedUp,
)
from app.core.secret import Censor

JSON_FAULTS = (msgspec.MsgspecError, UnicodeError, RecursionError)

_DETAIL_CHARS = 500


def _refused(code: str, english: str, chinese: str) -> ErrorRow:
    return ErrorRow(code, BackendRefused, english, chinese)


def _busy(code: str, english: str, chinese: str) -> ErrorRow:
    return ErrorRow(
        code,
        BackendBusy,
        f"{english}; try again in a moment, or choose another model.",
        f"{chinese}；请稍后重试，或换用其他模型。",
    )


def _used_up(code: str, english: str, chinese: str) -> ErrorRow:
    return ErrorRow(
        code,
        BackendUsedUp,
        f"{english}; choose another model, and tell the gateway's operator.",
        f"{chinese}；请换用其他模型，并告知网关管理员。",
    )


def _down(code: str, english: str, chinese: str) -> ErrorRow:
    return ErrorRow(code, BackendUnavailable, f"{english}; try again in a moment.", f"{chinese}；请稍后重试。")


def _operator(code: str, english: str, chinese: str) -> ErrorRow:
    return ErrorRow(
        code, BackendMisconfigured, f"The gateway's operator must {english}.", f"请联系网关管理员：{chinese}。"
    )


_BAD_TOKEN = (
    "check Baidu's API Key and Secret Key: their access token was refused",
    "检查百度的 API Key 与 Secret Key，用它们取得的 access token 被拒绝",
)
_BAD_SIGNATURE = (
    "check Baidu's Access Key and its secret: the signature does not fit",
    "检查百度的 Access Key 及其 Secret，签名不匹配",
)
_UNKNOWN_KEY = ("check Baidu's Access Key: Baidu does not know it", "检查百度的 Access Key，该密钥在百度不存在")
_NOT_ALLOWED = (
    "open this service for the Baidu account, or give its key the right to use it",
    "为百度账号开通该服务，或给所用密钥授权",
)
_BAD_ADDRESS = (
    "check the address of this Baidu service: there is nothing under it",
    "检查该百度服务的地址，该地址下没有服务",
)
_BAD_PARAMETER = (
    "Baidu refused a parameter of this request; check the question, the picture and the sampling fields.",
    "百度拒绝了请求中的某个参数；请检查问题、图片与采样参数。",
)

SERVICES = ErrorTable.of(
    "Baidu AI",
    "cloud.baidu.com, Qianfan, «智慧图问», and ai.baidu.com, error codes; read 2026-11-20",
    _down("1", "Baidu failed for an unknown reason", "百度服务出现未知错误"),
    _down("2", "Baidu's service is not available for the moment", "百度服务暂时不可用"),
    _operator("3", *_BAD_ADDRESS),
    _busy("4", "Baidu's limit on requests to this service is reached", "该服务的请求数已达百度的上限"),
    _operator("6", *_NOT_ALLOWED),
    _operator(
        "13",
        "check Baidu's API Key and Secret Key: no service token could be had for them",
        "检查百度的 API Key 与 Secret Key，用它们无法取得服务令牌",
    ),
    _operator("14", *_BAD_SIGNATURE),
    _down("15", "Baidu could not find or create the application behind the key", "百度未找到或未能创建密钥对应的应用"),
    _used_up("17", "The Baidu account's requests of this day are used up", "百度账号当日的请求量已用完"),
    _busy("18", "The Baidu account asks more often per second than it may", "百度账号每秒的请求数已超限"),
    _used_up("19", "All requests that the Baidu account had are used up", "百度账号的请求总量已用完"),
    _operator("100", *_BAD_TOKEN),
    _operator("110", *_BAD_TOKEN),
    _operator("111", *_BAD_TOKEN),
    _refused("216100", *_BAD_PARAMETER),
    _refused(
        "216203",
        "Baidu could not read the picture; send a JPEG or PNG of at least 80 by 80 pixels.",
        "百度无法处理该图片；请发送不小于 80×80 像素的 JPEG 或 PNG。",
    ),
    _down("216400", "Baidu failed while it worked on the request", "百度服务处理请求时出错"),
    _down("336000", "Baidu had an internal error", "百度服务内部错误"),
    _refused("336001", *_BAD_PARAMETER),
    _refused(
        "336002", "Baidu could not read the request as JSON; check it.", "百度无法将请求解析为 JSON；请检查请求。"
    ),
    _refused("336003", *_BAD_PARAMETER),
    _operator("336004", *_NOT_ALLOWED),
    _operator("336005", *_BAD_ADDRESS),
    _down("336100", "Baidu's service is overloaded", "百度服务负载过高"),
    _operator(
        "336101",
        "check the address of this Baidu service: it takes no requests of this kind",
        "检查该百度服务的地址，该地址不接受此类请求",
    ),
    _refused("336104", *_BAD_PARAMETER),
    _refused("336105", *_BAD_PARAMETER),
    _busy("336501", "The Baidu account's requests of this minute are used up", "百度账号本分钟的请求数已用完"),
    _busy("336502", "The Baidu account's tokens of this minute are used up", "百度账号本分钟的 token 数已用完"),
    _operator(
        "337008",
        "install the plugin ChatOCR in the Baidu application behind this model: Baidu does not find it there",
        "在该模型对应的百度应用中安装智慧图问插件，百度在其中没有找到它",
    ),
)

OCR = ErrorTable.of(
    "Baidu OCR",
    "ai.baidu.com, «文字识别» error codes, and «图像内容理解»; read 2026-11-20",
    _refused(
        "216101",
        "A parameter that Baidu needs is missing; send the picture again.",
        "请求缺少必要参数；请重新发送图片。",
    ),
    _operator("216102", *_NOT_ALLOWED),
    _refused("216103", "A parameter is too long for Baidu; shorten it.", "某个参数过长；请缩短后重试。"),
    _operator(
        "216110",
        "check Baidu's application: it does not exist under this key",
        "检查百度应用，该密钥下不存在此应用",
    ),
    _refused("216200", "The picture is empty; send another one.", "图片为空；请更换图片。"),
    _refused(
        "216201",
        "Baidu does not take a picture of this format; send a JPEG, PNG or BMP.",
        "百度不支持该图片格式；请发送 JPEG、PNG 或 BMP。",
    ),
    _refused(
        "216202",
        "The picture is too small, too large or too long for Baidu; send one of another size.",
        "图片的尺寸或大小不符合百度的要求；请调整后再发送。",
    ),
    _down("216630", "Baidu failed to recognise the picture", "百度识别图片时出错"),
    _down(
        "282000",
        "Baidu had an internal error, as it may with long pictures; those do better in parts",
        "百度服务内部错误，文字过多的图片可切分后发送",
    ),
    _refused(
        "282111",
        "Baidu cannot use the picture's address; send the picture itself.",
        "百度无法使用该图片地址；请直接发送图片。",
    ),
    _down("282112", "Baidu could not fetch the picture in time", "百度下载图片超时"),
    _refused(
        "282113", "Baidu could not fetch the picture; send the picture itself.", "百度无法下载图片；请直接发送图片。"
    ),
    _refused("282114", "The picture is too large for Baidu; send a smaller one.", "图片过大；请缩小后再发送。"),
    _refused("282501", "The question is too long for Baidu; shorten it.", "问题过长；请缩短后重试。"),
)

CLOUD = ErrorTable.of(
    "Baidu Cloud",
    "cloud.baidu.com, «错误码» and «常见签名认证错误排查»; read 2026-11-20",
    _operator("AccessDenied", *_NOT_ALLOWED),
    _operator("OptInRequired", *_NOT_ALLOWED),
    _operator("InvalidAccessKeyId", *_UNKNOWN_KEY),
    _operator("NotFound", *_UNKNOWN_KEY),
    _operator("SignatureDoesNotMatch", *_BAD_SIGNATURE),
    _operator("InvalidHTTPAuthHeader", *_BAD_SIGNATURE),
    _operator(
        "RequestExpired",
        "set this machine's clock: Baidu finds the request too old",
        "校准本机时钟，百度认为请求已过期",
    ),
    _operator("InvalidURI", *_BAD_ADDRESS),
    _operator("InvalidVersion", *_BAD_ADDRESS),
    _refused("InappropriateJSON", *_BAD_PARAMETER),
    _refused("InvalidHTTPRequest", *_BAD_PARAMETER),
    _refused(
        "MalformedJSON",
        "Baidu could not read the request as JSON; check it.",
        "百度无法将请求解析为 JSON；请检查请求。",
    ),
    _refused("PreconditionFailed", *_BAD_PARAMETER),
    _down("InternalError", "Baidu had an internal error", "百度服务内部错误"),
)

# The token page has one code, `invalid_client`, for two mistakes, and tells them apart by its description only.
TOKENS = ErrorTable.of(
    "Baidu tokens",
    "ai.baidu.com, «鉴权认证机制»; read 2026-11-20",
    _operator("invalid_client", "check Baidu's API Key and Secret Key", "检查百度的 API Key 与 Secret Key"),
    _operator(
        "unknown client id", "check Baidu's API Key: Baidu does not know it", "检查百度的 API Key，它在百度不存在"
    ),
    _operator(
        "Client authentication failed",
        "check Baidu's Secret Key: it does not belong to the API Key",
        "检查百度的 Secret Key，它与 API Key 不匹配",
    ),
)

TABLES = (SERVICES, OCR, CLOUD, TOKENS)

_NO_ANSWER = ("Baidu sent something that is not an answer; try again.", "百度返回了无法识别的内容；请重试。")
_CUT_SHORT = ("Baidu broke off its answer; try again.", "百度的回答中断；请重试。")
_BY_STATUS: tuple[tuple[range, type[BackendError], str, str], ...] = (
    (
        range(401, 405),
        BackendMisconfigured,
        "Baidu refused the gateway's credentials or address; its operator must check them.",
        "百度拒绝了网关的凭据或地址；请联系网关管理员。",
    ),
    (
        range(429, 430),
        BackendBusy,
        "Baidu has too many requests; try again in a moment.",
        "发往百度的请求过多；请稍后重试。",
    ),
    (
        range(500, 600),
        BackendUnavailable,
        "Baidu's service is not available for the moment; try again.",
        "百度服务暂时不可用；请稍后重试。",
    ),
)


class BaiduErrors:
    """Makes our errors of Baidu's.

    Args:
        backend: its name in the catalogue.
        secrets: what is struck from the vendor's words before they go to the logs.
    """

    def __init__(self, backend: str, secrets: tuple[str, ...]) -> None:
        self._backend = backend
        self._censored = Censor(secrets)

    def of_code(self, code: str, said: str) -> BackendError:
        """The error of a code, by whichever table has it.

        Args:
            said: the vendor's words beside it.
        """
        table = next((table for table in TABLES if code in table.rows), SERVICES)
        return table.row(code).raised(backend=self._backend, detail=self._logged(f"{code}: {said}"))

    def in_answer(self, value: Any) -> BackendError | None:
        """The error in a JSON value; `None` where it is none."""
        match value:
            case {"error_code": int() | str() as code} if str(code) not in {"0", ""}:
                return self.of_code(str(code), _said(value, "error_msg"))
            case {"error": str(code)} if code:
                description = _said(value, "error_description")
                return self.of_code(description if description in TOKENS.rows else code, description)
            case {"code": str(code)} if code:
                return self.of_code(code, _said(value, "message"))
        return None

    def of_response(self, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
        """Reads an answer that is not what was asked for; `headers` have lower-case names."""
        error = self._found_in(status, headers, body)
        error.retry_after_s = retry_after_s(headers)
        return error

    def _found_in(self, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
        try:
            found = self.in_answer(msgspec.json.decode(body))
        except JSON_FAULTS:
            found = None
        if found is not None and not isinstance(found, BackendProtocolError):
            return found
        if code := _known_code(headers):
            return self.of_code(code, headers.get("x-bce-error-message", ""))
        detail = f"HTTP {status}: {body.decode('utf-8', 'replace')}"
        for statuses, error, english, chinese in _BY_STATUS:
            if status in statuses:
                return error(english, chinese=chinese, backend=self._backend, detail=self._logged(detail))
        return found or self.no_answer(detail)

    def no_answer(self, detail: str) -> BackendError:
        """What came makes no sense: another route may do better."""
        return self._protocol(_NO_ANSWER, self._logged(detail))

    def cut_short(self) -> BackendError:
        """The answer ended before its end was told."""
        return self._protocol(_CUT_SHORT, "the stream ended without is_end")

    def _protocol(self, words: tuple[str, str], detail: str) -> BackendError:
        english, chinese = words
        return BackendProtocolError(english, chinese=chinese, backend=self._backend, detail=detail, retryable=True)

    def _logged(self, text: str) -> str:
        return self._censored(text)[:_DETAIL_CHARS]


def _said(value: Mapping[str, Any], key: str) -> str:
    said = value.get(key)
    return said if isinstance(said, str) else ""


def _known_code(headers: Mapping[str, str]) -> str | None:
    """The cloud's code in the headers: by itself, or as the first word of the message, as in `NotFound, cause: …`."""
    words = (headers.get("x-bce-error-code", ""), headers.get("x-bce-error-message", "").partition(",")[0])
    return next((word for word in words if word in CLOUD.rows), None)
