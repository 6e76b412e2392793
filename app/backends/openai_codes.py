"""What the error codes of OpenAI-compatible services mean: code → class, one table per provider.

A code is looked up as it stands, then without its last dotted part: `InvalidParameter.X` is `InvalidParameter`.
Messages are never read: they change with every release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from app.backends.error_table import ErrorRow
from app.backends.spark_errors import SKEWED, SPARK, UNAUTHORISED
from app.core.errors import (
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendProtocolError,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    ContentFiltered,
    ContextTooLong,
)

Verdict: TypeAlias = type[BackendError]

# OpenAI's API guide "Error codes"; types as OpenAI, vLLM and SGLang send them.
OPENAI: Mapping[str, Verdict] = {
    "invalid_api_key": BackendMisconfigured,
    "authentication_error": BackendMisconfigured,
    "AuthenticationError": BackendMisconfigured,
    "permission_error": BackendMisconfigured,
    "PermissionDeniedError": BackendMisconfigured,
    "insufficient_quota": BackendMisconfigured,
    "billing_hard_limit_reached": BackendMisconfigured,
    "model_not_found": BackendMisconfigured,
    "not_found_error": BackendMisconfigured,
    "NotFoundError": BackendMisconfigured,
    "context_length_exceeded": ContextTooLong,
    "string_above_max_length": ContextTooLong,
    "content_filter": ContentFiltered,
    "content_policy_violation": ContentFiltered,
    "rate_limit_exceeded": BackendBusy,
    "rate_limit_error": BackendBusy,
    "RateLimitError": BackendBusy,
    "server_error": BackendUnavailable,
    "overloaded_error": BackendUnavailable,
    "InternalServerError": BackendUnavailable,
}

# Types too coarse to outweigh a status; they count where the status says nothing, as inside a stream.
COARSE: Mapping[str, Verdict] = {
    "invalid_request_error": BackendRefused,
    "BadRequestError": BackendRefused,
}

# help.aliyun.com Model Studio "Error messages", read 2026-11-20. `insufficient_quota` is a limit on tokens per minute
# here, not a matter of money.
DASHSCOPE: Mapping[str, Verdict] = {
    "invalid_parameter_error": BackendRefused,
    "InvalidParameter": BackendRefused,
    "data_inspection_failed": ContentFiltered,
    "DataInspectionFailed": ContentFiltered,
    "invalid_api_key": BackendMisconfigured,
    "InvalidApiKey": BackendMisconfigured,
    "access_denied": BackendMisconfigured,
    "Model.AccessDenied": BackendMisconfigured,
    "AllocationQuota.FreeTierOnly": BackendMisconfigured,
    "model_not_found": BackendMisconfigured,
    "model_not_supported": BackendMisconfigured,
    "limit_requests": BackendBusy,
    "limit_burst_rate": BackendBusy,
    "insufficient_quota": BackendBusy,
    "PostpaidBillOverdue": BackendMisconfigured,
    "PrepaidBillOverdue": BackendMisconfigured,
    "CommodityNotPurchased": BackendMisconfigured,
    "internal_error": BackendUnavailable,
}

# bigmodel.cn and docs.z.ai "Error codes" (api-code), read 2026-11-20. 1113 is arrears though its status is 429.
ZHIPU: Mapping[str, Verdict] = {
    **dict.fromkeys(("1000", "1001", "1002", "1003", "1004"), BackendMisconfigured),
    **dict.fromkeys(("1110", "1111", "1112", "1113", "1121"), BackendMisconfigured),
    "1120": BackendUnavailable,
    "1210": BackendRefused,
    "1211": BackendMisconfigured,
    **dict.fromkeys(("1212", "1213", "1214", "1215"), BackendRefused),
    **dict.fromkeys(("1220", "1221", "1222"), BackendMisconfigured),
    **dict.fromkeys(("1230", "1234"), BackendUnavailable),
    **dict.fromkeys(("1300", "1301"), ContentFiltered),
    **dict.fromkeys(("1302", "1303", "1304", "1305", "1308"), BackendBusy),
    "1309": BackendMisconfigured,
}

# Captured answers of SiliconFlow, 2026-11-20: codes are numbers beside the message, and rare.
SILICONFLOW: Mapping[str, Verdict] = {"20012": BackendMisconfigured}

# Volcengine Ark "错误码", read 2026-11-20. `SetLimitExceeded` is a limit the account's owner set himself.
ARK: Mapping[str, Verdict] = {
    "MissingParameter": BackendRefused,
    "InvalidParameter": BackendRefused,
    "InvalidArgumentError": BackendRefused,
    "InvalidImageURL": BackendRefused,
    "OutofContextError": ContextTooLong,
    "SensitiveContentDetected": ContentFiltered,
    "InputTextSensitiveContentDetected": ContentFiltered,
    "InputImageSensitiveContentDetected": ContentFiltered,
    "OutputTextSensitiveContentDetected": ContentFiltered,
    "AuthenticationError": BackendMisconfigured,
    "AccessDenied": BackendMisconfigured,
    "AccountOverdueError": BackendMisconfigured,
    "OperationDenied": BackendMisconfigured,
    "InvalidEndpointOrModel": BackendMisconfigured,
    "ModelNotOpen": BackendMisconfigured,
    "RateLimitExceeded": BackendBusy,
    "ModelAccountRpmRateLimitExceeded": BackendBusy,
    "ModelAccountTpmRateLimitExceeded": BackendBusy,
    "ModelAccountIpmRateLimitExceeded": BackendBusy,
    "AccountRateLimitExceeded": BackendBusy,
    "QuotaExceeded": BackendBusy,
    "ServerOverloaded": BackendBusy,
    "InflightBatchsizeExceeded": BackendBusy,
    "SetLimitExceeded": BackendMisconfigured,
    "InternalServiceError": BackendUnavailable,
}

# LiteLLM, ProxyErrorTypes in proxy/_types.py and issues 37599 and 23901, read 2026-11-20: `code` is the status of the
# error as a string, which the status of the answer need not repeat; 400 and 500 stand for anything, so that `type`
# decides there.
LITELLM: Mapping[str, Verdict] = {
    "401": BackendMisconfigured,
    "403": BackendMisconfigured,
    "404": BackendMisconfigured,
    "408": BackendTimeout,
    "429": BackendBusy,
    "503": BackendUnavailable,
    "throttling_error": BackendBusy,
    "budget_exceeded": BackendMisconfigured,
    "auth_error": BackendMisconfigured,
    "expired_key": BackendMisconfigured,
    "token_not_found_in_db": BackendMisconfigured,
    "key_model_access_denied": BackendMisconfigured,
    "team_model_access_denied": BackendMisconfigured,
    "no_db_connection": BackendUnavailable,
}

# Over HTTP iFlytek has Spark's codes; its statuses mean what they mean everywhere.
IFLYTEK: Mapping[str, ErrorRow] = {code: row for code, row in SPARK.rows.items() if code not in {UNAUTHORISED, SKEWED}}

CODES: Mapping[str, Mapping[str, Verdict | ErrorRow]] = {
    "dashscope": DASHSCOPE,
    "zhipu": ZHIPU,
    "siliconflow": SILICONFLOW,
    "ark": ARK,
    "litellm": LITELLM,
    "iflytek": IFLYTEK,
    "iflytek-maas": IFLYTEK,
}
"""By provider; a provider without a row has OpenAI's codes only."""

STATUSES: Mapping[int, Verdict] = {
    # of our credentials, our address or how we speak, no matter what was asked (RFC 9110, section 15.5; RFC 6585)
    **dict.fromkeys((401, 402, 403, 404, 405, 406, 407, 410, 411, 421, 426, 431), BackendMisconfigured),
    408: BackendTimeout,
    **dict.fromkeys((409, 423, 425), BackendUnavailable),  # of the moment: a conflict, a lock, too early
    429: BackendBusy,
    434: BackendMisconfigured,  # Zhipu: no permission for this API
    504: BackendTimeout,
}


def by_status(status: int) -> Verdict | None:
    """What a status means on its own; `None` where it is no error's."""
    if status in STATUSES:
        return STATUSES[status]
    if 400 <= status < 500:
        return BackendRefused
    if 500 <= status < 600:
        return BackendUnavailable
    return None


def by_code(codes: Mapping[str, Verdict | ErrorRow], code: str | None) -> Verdict | ErrorRow | None:
    """What a code means, in one table or in OpenAI's."""
    while code:
        verdict = codes.get(code) or OPENAI.get(code)
        if verdict is not None:
            return verdict
        code = code.rpartition(".")[0]
    return None


MESSAGES: Mapping[Verdict, tuple[str, str]] = {
    BackendUnavailable: (
        "The model's backend cannot serve the request now. Try again later.",
        "模型服务暂时无法处理此请求，请稍后重试。",
    ),
    BackendTimeout: (
        "The model's backend did not answer in time. Try again later.",
        "模型服务未能及时回答，请稍后重试。",
    ),
    BackendBusy: (
        "The model's backend has too many requests. Try again later.",
        "发往模型服务的请求过多，请稍后重试。",
    ),
    BackendProtocolError: (
        "The model's backend gave no valid answer. Try again later.",
        "模型服务没有返回有效的回答，请稍后重试。",
    ),
    BackendMisconfigured: (
        "The gateway's access to this model's backend is not set up correctly. Tell its operator.",
        "网关访问此模型服务的配置有误，请告知管理员。",
    ),
    BackendRefused: (
        "The model's backend refused the request. Check its parameters and pictures.",
        "模型服务拒绝了此请求，请检查参数和图片。",
    ),
    # In words that LiteLLM and LangChain look for: only then do they cut the conversation or take a larger model.
    ContextTooLong: (
        "The prompt is too long: this model's maximum context length is exceeded. Send less text or fewer pictures.",
        "输入过长，超过了该模型的最大上下文长度：请减少文字、历史消息或图片。",
    ),
    ContentFiltered: (
        "The backend's content check refused the request. Change its text or pictures.",
        "请求未通过模型服务的内容审核，请修改文字或图片。",
    ),
}
"""What a caller is told, in English and Chinese; what the vendor said goes to the logs."""
