"""Qianfan's error codes.

`invalid_model` comes with 400 and 401, and 401 means more than bad keys: the code decides, not the status. The numbers
are those of V1, which came with status 200.
"""

from __future__ import annotations

from app.backends.error_table import ErrorRow, ErrorTable
from app.core.errors import (
    BackendBusy,
    BackendMisconfigured,
    BackendRefused,
    BackendUnavailable,
    ContentFiltered,
    ContextTooLong,
)

_TOO_LONG = (
    "The prompt is too long: this model's maximum context length is exceeded. Send less text or fewer pictures.",
    "输入过长，超过了该模型的最大上下文长度：请减少文字、历史消息或图片。",
)
_UNSAFE = ("{} did not pass Baidu's content check: change it and ask again.", "{}未通过百度的内容审核：请修改后重试。")
_OPERATOR = ("{}: tell the gateway's operator.", "{}：请告知网关管理员。")
_BUSY = ("Used up at Baidu for the moment: {}; try again shortly.", "{}暂时已用完：请稍后重试。")
_FAILED = ("Baidu failed while answering: try again shortly.", "百度服务在回答时出错：请稍后重试。")


def _refused(code: str, english: str, chinese: str) -> ErrorRow:
    return ErrorRow(code, BackendRefused, english, chinese)


def _unsafe(code: str, english: str, chinese: str) -> ErrorRow:
    return ErrorRow(code, ContentFiltered, _UNSAFE[0].format(english), _UNSAFE[1].format(chinese))


def _ours(code: str, english: str, chinese: str) -> ErrorRow:
    return ErrorRow(code, BackendMisconfigured, _OPERATOR[0].format(english), _OPERATOR[1].format(chinese))


def _busy(code: str, english: str, chinese: str) -> ErrorRow:
    return ErrorRow(code, BackendBusy, _BUSY[0].format(english), _BUSY[1].format(chinese))


QIANFAN = ErrorTable.of(
    "Qianfan",
    'cloud.baidu.com qianfan-api "错误码说明" and "图像理解 V2", read 2026-11-20',
    _refused("malformed_json", "Baidu could not read the request as JSON: check it.", "请求不是合法的 JSON：请检查。"),
    _refused(
        "invalid_messages",
        "Baidu does not take these messages: begin with the user, alternate, end with the user.",
        "消息顺序不符合要求：请以用户消息开头，与助手消息交替，并以用户消息结尾。",
    ),
    _refused(
        "invalid_argument",
        "A parameter has a value that this model does not take: check temperature, top_p, stop and max_tokens.",
        "该模型不接受某个参数的取值：请检查 temperature、top_p、stop 和 max_tokens。",
    ),
    _refused(
        "invalid_image_url",
        "Baidu cannot use a picture: each side must be 5 to 5999 pixels and the file at most 10 MB.",
        "百度无法使用该图片：每边须为 5 至 5999 像素，文件不超过 10 MB。",
    ),
    _refused(
        "invalid_plugin_argument",
        "A parameter of the plugin is wrong: check web_search and its fields.",
        "插件参数有误：请检查 web_search 及其字段。",
    ),
    _refused(
        "invalid_image_generation_prompt",
        "The prompt for drawing is not valid: change it; here only questions about pictures are meant.",
        "绘图提示词无效：请修改；本接口仅用于看图问答。",
    ),
    _refused(
        "invalid_image_generation_refer_image",
        "The reference picture for drawing is not valid: leave it out.",
        "绘图参考图无效：请去掉。",
    ),
    ErrorRow("characters_too_long", ContextTooLong, *_TOO_LONG),
    ErrorRow("tokens_too_long", ContextTooLong, *_TOO_LONG),
    _unsafe("image_url_unsafe", "A picture", "图片"),
    _unsafe("system_unsafe", "The system message", "系统消息"),
    _unsafe("user_setting_unsafe", "The user setting", "用户设定"),
    _unsafe("functions_unsafe", "The description of a tool", "工具描述"),
    _unsafe("unsafe_request", "The request", "请求内容"),
    _ours("method_not_supported", "The gateway's address for Baidu is wrong", "网关配置的百度接口地址有误"),
    _ours(
        "invalid_model",
        "Baidu knows no such model, or the account has no access to it",
        "百度没有此模型，或账号没有使用权限",
    ),
    _ours("model_offline", "Baidu has switched this model off", "百度已下线此模型"),
    _ours(
        "no_parameter_permission",
        "The account may not use one of the parameters",
        "账号没有使用某个参数的权限",
    ),
    _ours(
        "coding_plan_api_key_not_allowed",
        "The key is one of a coding plan, which may not be used here",
        "所配密钥属于编程套餐，不能用于此接口",
    ),
    _ours("invalid_appid", "The application id of the gateway's account is wrong", "网关配置的应用 ID（appid）有误"),
    _ours("invalid_iam_token", "Baidu does not accept the gateway's API key", "百度不接受网关配置的 API Key"),
    _ours("account_overdue", "The gateway's account at Baidu is in arrears", "网关的百度账号已欠费"),
    _ours("access_denied", "The gateway's account may not use this service", "网关的百度账号没有此服务的权限"),
    _ours("110", "Baidu does not accept the gateway's access token", "百度不接受网关的 access_token"),
    _ours("111", "The gateway's access token has expired", "网关的 access_token 已过期"),
    _busy("rpm_rate_limit_exceeded", "the model's requests per minute", "该模型每分钟的请求数"),
    _busy("tpm_rate_limit_exceeded", "the model's tokens per minute", "该模型每分钟的 token 数"),
    _busy("input_tpm_rate_limit_exceeded", "the model's input tokens per minute", "该模型每分钟的输入 token 数"),
    _busy("output_tpm_rate_limit_exceeded", "the model's output tokens per minute", "该模型每分钟的输出 token 数"),
    _busy("user_rate_limit_exceeded", "the account's share", "账号的额度"),
    _busy("cluster_rate_limit_exceeded", "the capacity of Baidu's cluster", "百度集群的容量"),
    _busy("cluster_rpm_rate_limit_exceeded", "the requests Baidu's cluster takes", "百度集群的请求数"),
    _busy("cluster_tpm_rate_limit_exceeded", "the tokens Baidu's cluster takes", "百度集群的 token 数"),
    _busy("preemptible_rate_limit_exceeded", "the spare capacity this account runs on", "账号所用的抢占式容量"),
    _busy("Offline_batch_reasoning_refused", "the capacity for batch work", "离线批量推理的容量"),
    _busy("18", "the requests per second", "每秒的请求数"),
    _busy("336501", "the model's requests per minute", "该模型每分钟的请求数"),
    _busy("336502", "the model's tokens per minute", "该模型每分钟的 token 数"),
    ErrorRow("internal_error", BackendUnavailable, *_FAILED),
    ErrorRow("Internal_error", BackendUnavailable, *_FAILED),
    ErrorRow("dispatch_internal_error", BackendUnavailable, *_FAILED),
    ErrorRow("image_genration_interal_error", BackendUnavailable, *_FAILED),  # spelt so on the page
    ErrorRow(
        "336100",
        BackendUnavailable,
        "Baidu's service is under high load: try again shortly.",
        "百度服务负载过高：请稍后重试。",
    ),
)
