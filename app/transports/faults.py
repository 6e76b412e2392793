"""What a library's errors are to us, and the words for them that all transports share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from app.core.errors import BackendError

REFUSAL_BYTES = 64 * 1024
"""How much of a refusal is read."""


class Words(NamedTuple):
    """A sentence for the caller, in two languages."""

    english: str
    chinese: str


UNREACHABLE = Words(
    "The model's backend cannot be reached at the moment; try again in a few seconds.",
    "暂时无法连接模型服务，请稍后重试。",
)
CUT_SHORT = Words("The model's backend broke off its answer; try again.", "模型服务的回答中断，请重试。")
NO_ANSWER = Words(
    "The model's backend sent something that is not an answer; try again, or tell the operator if it persists.",
    "模型服务返回的内容不是有效的回答，请重试；若持续出现请告知管理员。",
)
BAD_CERTIFICATE = Words(
    "The model's backend has no valid certificate; the operator must look.",
    "模型服务的证书无效，请告知管理员。",
)
BAD_ADDRESS = Words(
    "The model's backend has no valid address; the operator must look.", "模型服务的地址无效，请告知管理员。"
)
TOO_LATE = Words("The model's backend did not answer in time; try again.", "模型服务未能及时回答，请重试。")

FaultRow: TypeAlias = tuple[type[Exception], type[BackendError], Words, bool, bool]
"""A library's exception, ours, words for the caller, whether the call may be repeated, whether it may have been billed.
"""


def mapped(error: Exception, table: Iterable[FaultRow], *, backend: str, detail: str) -> BackendError:
    """Our error for a library's, by the first row that fits."""
    for library, ours, (english, chinese), retryable, spent in table:
        if isinstance(error, library):
            return ours(english, chinese=chinese, backend=backend, detail=detail, retryable=retryable, spent=spent)
    raise error  # pragma: no cover - callers catch exactly the classes of the table
