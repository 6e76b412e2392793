"""Spark's error codes: those of the frames, of the handshake (`401`, `403`), and of iFlytek's cloud.

An error inside an open connection is a frame whose `header.code` is not 0; trouble with credentials is an HTTP status
at the handshake instead.
"""

from __future__ import annotations

from app.backends.error_table import ErrorRow, ErrorTable
from app.core.errors import (
    BackendBusy,
    BackendMisconfigured,
    BackendRefused,
    BackendUnavailable,
    BackendUsedUp,
    ContentFiltered,
    ContextTooLong,
)

SKEWED = "403"
UNAUTHORISED = "401"


def _down(code: str, english: str, chinese: str) -> ErrorRow:
    return ErrorRow(code, BackendUnavailable, f"{english}: try again shortly.", f"{chinese}：请稍后重试。")


def _busy(code: str, english: str, chinese: str) -> ErrorRow:
    return ErrorRow(code, BackendBusy, f"{english}: try again shortly.", f"{chinese}：请稍后重试。")


def _refused(code: str, english: str, chinese: str) -> ErrorRow:
    return ErrorRow(code, BackendRefused, english, chinese)


def _filtered(code: str, english: str, chinese: str) -> ErrorRow:
    return ErrorRow(code, ContentFiltered, english, chinese)


def _ours(code: str, english: str, chinese: str) -> ErrorRow:
    return ErrorRow(
        code, BackendMisconfigured, f"{english}: tell the gateway's operator.", f"{chinese}：请告知网关管理员。"
    )


SPARK = ErrorTable.of(
    "Spark",
    "xfyun.cn/doc/spark, «图片理解 API 文档», «星火认知大模型服务说明» and the MaaS pages, read 2026-11-20",
    # at the handshake
    _ours(
        UNAUTHORISED,
        "The APIKey or APISecret of the gateway is not accepted by iFlytek",
        "讯飞不接受网关配置的 APIKey 或 APISecret",
    ),
    _ours(
        SKEWED,
        "The gateway's clock is more than five minutes off, so that iFlytek refuses what it signs",
        "网关的时钟与讯飞相差超过五分钟，签名因此被拒绝，需要校准时间",
    ),
    # of the picture page
    _refused(
        "10003",
        "Spark could not read the request as JSON: check it for broken characters.",
        "星火无法将请求解析为 JSON：请检查其中是否有非法字符。",
    ),
    _refused(
        "10004",
        "Spark does not know a field of the request, or its type: leave out fields that OpenAI's API does not have.",
        "请求中有星火不支持的字段，或字段类型有误：请去掉 OpenAI 接口以外的字段。",
    ),
    _refused(
        "10005",
        "A parameter has a value that Spark does not take: check temperature, max_tokens and top_k.",
        "星火不接受某个参数的取值：请检查 temperature、max_tokens 和 top_k。",
    ),
    _busy("10006", "Spark has a connection open for the same user", "同一用户已有连接"),
    _filtered(
        "10013",
        "The question did not pass iFlytek's content check: change its text or picture.",
        "问题未通过讯飞的内容审核：请修改文字或更换图片。",
    ),
    _filtered(
        "10022",
        "A picture did not pass iFlytek's content check: take another one.",
        "图片未通过讯飞的内容审核：请更换图片。",
    ),
    _refused(
        "10029",
        "A side of the picture is longer than 12800 pixels: send a smaller one.",
        "图片有一边超过 12800 像素：请缩小后再发送。",
    ),
    _refused(
        "10041",
        "The picture must have more than 50x50 and fewer than 6000x6000 pixels in all: send another size.",
        "图片总像素须大于 50×50、小于 6000×6000：请调整尺寸后再发送。",
    ),
    ErrorRow(
        "10907",
        ContextTooLong,
        "The prompt is too long: this model's maximum context length is exceeded. Send less text or history.",
        "输入过长，超过了该模型的最大上下文长度：请减少文字或历史消息。",
    ),
    # of all Spark services
    _down("10000", "Spark could not open the connection", "星火未能建立连接"),
    _down("10001", "Spark failed while reading the request", "星火读取请求时出错"),
    _down("10002", "Spark failed while writing the answer", "星火发送回答时出错"),
    _busy("10007", "Spark is still answering this user's last question", "星火仍在回答该用户的上一个问题"),
    _down("10008", "Spark's capacity is used up", "星火服务容量不足"),
    _down("10009", "Spark could not reach its engine", "星火未能连接引擎"),
    _down("10010", "Spark's engine did not take the question", "星火引擎未能接收问题"),
    _down("10011", "Spark's engine did not hand over the answer", "星火引擎未能返回回答"),
    _down("10012", "Spark's engine failed or is too busy", "星火引擎出错或过于繁忙"),
    _filtered(
        "10014",
        "The answer did not pass iFlytek's content check: ask in other words.",
        "回答未通过讯飞的内容审核：请换个问法。",
    ),
    _ours("10015", "The gateway's application is blocked by iFlytek", "网关的讯飞应用已被列入黑名单"),
    _ours(
        "10016",
        "The gateway's application may not use this Spark version, or its tokens or connections are used up",
        "网关的讯飞应用未开通该版本，或额度、并发数已用完",
    ),
    _down("10017", "Spark failed to clear a conversation", "星火清除会话时出错"),
    _filtered(
        "10019",
        "The conversation tends towards what iFlytek's content check refuses: begin a new one.",
        "会话内容有违规倾向，未通过讯飞的内容审核：请新建会话。",
    ),
    _filtered(
        "10021",
        "The input did not pass iFlytek's content check: change its text or picture.",
        "输入未通过讯飞的内容审核：请修改文字或更换图片。",
    ),
    _down("10110", "Spark is too busy", "星火服务繁忙"),
    _refused(
        "10163",
        "A parameter is outside what Spark's engine takes: check temperature, max_tokens and top_k.",
        "某个参数超出星火引擎允许的范围：请检查 temperature、max_tokens 和 top_k。",
    ),
    _down("10222", "Spark's engine has trouble with its network", "星火引擎网络异常"),
    _down("10223", "Spark's engine cannot be found in its network", "星火网络中找不到可用的引擎"),
    _ours("10404", "The model's name and Spark's address do not belong together", "模型名称与星火接口地址不匹配"),
    _refused(
        "10910",
        "Spark refuses the request as it stands: simplify the message and its parameters.",
        "星火拒绝了该请求：请简化消息内容和参数。",
    ),
    # of iFlytek's cloud
    _ours(
        "11200",
        "The gateway's application may not use this Spark service, or its quota is used up or expired",
        "网关的讯飞应用未开通该服务，或额度已用完、已过期",
    ),
    ErrorRow(
        "11201",
        BackendUsedUp,
        "The gateway's calls of today are used up at Spark: choose another model, or come back tomorrow.",
        "网关今日的星火调用次数已用完：请换用其他模型，或明天再试。",
    ),
    _busy("11202", "Spark's calls per second are used up", "星火每秒调用次数超限"),
    _busy("11203", "Spark's calls at the same time are used up", "星火并发路数超限"),
    _busy("11210", "Spark's tokens per minute are used up", "星火每分钟 token 数超限"),
    _ours("11221", "The gateway's application may not use this model", "网关的讯飞应用未获该模型的授权"),
)
