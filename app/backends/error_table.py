"""What vendors' error codes mean: one row per code, with a sentence for the caller in two languages.

The class of a row decides the HTTP status, OpenAI's `type` and `code`, and whether another route is tried. What the
vendor wrote beside its code goes to the logs only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from app.core.errors import BackendBusy, BackendError, BackendProtocolError, BackendUnavailable

Retry: TypeAlias = Literal["never", "elsewhere", "later"]

_DETAIL_CHARS = 500


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One code.

    Args:
        code: as the vendor writes it; numbers as text.
        error: what it is to us.
        english, chinese: what is wrong and what to do about it, one sentence, safe for callers.
    """

    code: str
    error: type[BackendError]
    english: str
    chinese: str

    @property
    def retry(self) -> Retry:
        """`later`: the same again after a wait; `elsewhere`: another route at once; `never`: nothing would change."""
        if issubclass(self.error, BackendBusy):
            return "later"
        return "elsewhere" if self.error.retryable else "never"

    def raised(self, *, backend: str, detail: str = "", retry_after_s: float | None = None) -> BackendError:
        """The error to raise.

        Args:
            detail: what the vendor said; for the logs, cut here.
            retry_after_s: what it asked us to wait; `None` where it did not say.
        """
        detail = detail[:_DETAIL_CHARS]
        error = self.error(self.english, chinese=self.chinese, backend=backend, backend_code=self.code, detail=detail)
        if issubclass(self.error, BackendBusy | BackendUnavailable):  # else waiting does not help
            error.retry_after_s = retry_after_s
        return error


_UNKNOWN = (
    "The model's backend reported an error that its documentation does not list; try again, or tell the operator.",
    "模型服务返回了其文档中未列出的错误；请重试，若持续出现请告知管理员。",
)


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """The codes of one vendor's page.

    Args:
        vendor: as `Spark`.
        source: the page or pages, and the day they were read.
    """

    vendor: str
    source: str
    rows: Mapping[str, ErrorRow]

    @classmethod
    def of(cls, vendor: str, source: str, *rows: ErrorRow) -> ErrorTable:
        """A table of these rows.

        Raises:
            ValueError: a code stands there twice.
        """
        by_code = {row.code: row for row in rows}
        if len(by_code) < len(rows):
            raise ValueError(f"{vendor}: a code stands there twice")
        return cls(vendor, source, by_code)

    def row(self, code: str) -> ErrorRow:
        """The row of a code; one that says so where the page has none."""
        return self.rows.get(code) or ErrorRow(code, BackendProtocolError, *_UNKNOWN)
