"""A cloud's bill, as a CSV file that its console hands out.

Its columns are found by their heads, English or Chinese. Amounts are yuan, with as many decimals as the cloud cares to
write: each is rounded to a micro-yuan, half up, and how many were is told. A day is the one that is written, whatever
the cloud's clock; clouds in China write theirs in Beijing time.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from app.core.errors import InvalidRequest, shown
from app.core.money import MICROS_PER_YUAN

# Heads as `_plain` writes them; of several that a bill has, the first named here.
_HEADS: Mapping[str, tuple[str, ...]] = {
    "id": (
        "请求id", "requestid", "reqid", "上游请求id", "backendrequestid", "upstreamrequestid", "调用id", "会话id",
        "日志id", "logid", "sid", "traceid", "任务id", "taskid", "流水号", "id",
    ),
    "amount": (
        "应付金额", "payableamount", "应付总额", "实付金额", "paymentamount", "实际支付金额", "消费金额", "扣费金额",
        "消耗金额", "结算金额", "优惠后金额", "pretaxamount", "totalamount", "totalcost", "费用", "金额", "总价",
        "amount", "cost", "fee", "charge",
    ),
    "day": (
        "日期", "账单日期", "消费日期", "使用日期", "消费时间", "请求时间", "调用时间", "使用时间", "扣费时间", "时间",
        "date", "day", "billingdate", "billdate", "usagedate", "usagestarttime", "starttime", "requesttime",
        "createdat", "time", "timestamp",
    ),
}  # fmt: skip
_IN_BRACKETS = re.compile(r"[(（\[【].*?[)）\]】]")
_SEPARATORS = re.compile(r"[\s_\-/:：]+")
_MONEY = re.compile(r"[\s,，¥￥元]|CNY|RMB", re.IGNORECASE)
_DAY = re.compile(r"\s*(\d{4})(?:[-/.](\d{1,2})[-/.](\d{1,2})|年(\d{1,2})月(\d{1,2})日|(\d{2})(\d{2}))(?!\d)")
_SUMS = ("合计", "总计", "小计", "total", "subtotal", "sum")
_HEAD_WITHIN_ROWS = 30
_AMOUNT_MAX_YUAN = 10**9


@dataclass(frozen=True, slots=True)
class Columns:
    """Heads of a bill's columns. `None`: found by the usual names, or not there."""

    id: str | None = None
    amount: str | None = None
    day: str | None = None


@dataclass(frozen=True, slots=True)
class BillLine:
    """What a cloud wants for something.

    Args:
        number: of the file's line, from 1.
        request_id: the cloud's id of the request; `None`: the line names none.
        day: as `2026-11-28`; `None`: the bill has no days.
        micros: in micro-yuan; negative: given back.
        text: the line's cells, to tell a line that stands twice from two of one request.
    """

    number: int
    request_id: str | None
    day: str | None
    micros: int
    text: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bill:
    """A bill.

    Args:
        columns: the heads that it was read by.
        rounded: how many amounts were finer than a micro-yuan.
        days: the first and the last; `None` where it has none.
    """

    lines: tuple[BillLine, ...]
    columns: Columns
    rounded: int
    days: tuple[str, str] | None

    @classmethod
    def read(cls, data: bytes, columns: Columns = Columns()) -> Bill:
        """Reads a file: UTF-8 with or without a mark, GBK, or UTF-16 with one.

        Raises:
            InvalidRequest: it is no such text, a column is not there, or an amount or a day is none; says where.
        """
        rows = _rows(_decoded(data))
        head_at, found = _head(rows, columns)
        reader = _LineReader(rows[head_at][1], found)
        lines = [reader.line(number, cells) for number, cells in rows[head_at + 1 :] if not _is_sum(cells)]
        if not lines:
            raise InvalidRequest("The bill has no lines below its head.", param="bill")
        days = [line.day for line in lines if line.day is not None]
        return cls(tuple(lines), found, reader.rounded, (min(days), max(days)) if days else None)


class _LineReader:
    """Reads lines by the columns they stand under, and counts what it rounded."""

    def __init__(self, heads: Sequence[str], columns: Columns) -> None:
        self._columns = columns
        self._at = {name: heads.index(head) for name in _HEADS if (head := getattr(columns, name)) is not None}
        self.rounded = 0

    def line(self, number: int, cells: Sequence[str]) -> BillLine:
        text = tuple(cell.strip() for cell in cells)
        request_id = self._cell(text, "id").strip("'\"")
        return BillLine(number, request_id or None, self._day(number, text), self._micros(number, text), text)

    def _cell(self, cells: Sequence[str], name: str) -> str:
        at = self._at.get(name, len(cells))
        return cells[at] if at < len(cells) else ""

    def _micros(self, number: int, cells: Sequence[str]) -> int:
        written = self._cell(cells, "amount")
        try:
            yuan = Decimal(_MONEY.sub("", written))
        except InvalidOperation as error:
            raise self._wrong(number, "amount", written, "no amount in yuan") from error
        if not yuan.is_finite() or abs(yuan) > _AMOUNT_MAX_YUAN:
            raise self._wrong(number, "amount", written, "no amount in yuan")
        exact = yuan * MICROS_PER_YUAN
        micros = exact.to_integral_value(ROUND_HALF_UP)
        self.rounded += micros != exact
        return int(micros)

    def _day(self, number: int, cells: Sequence[str]) -> str | None:
        if "day" not in self._at:
            return None
        written = self._cell(cells, "day")
        match = _DAY.match(written)
        try:
            year, month, day = (int(part) for part in match.groups() if part) if match is not None else (0, 0, 0)
            return date(year, month, day).isoformat()
        except ValueError as error:
            raise self._wrong(number, "day", written, "no day, as 2026-11-28") from error

    def _wrong(self, number: int, name: str, written: str, what: str) -> InvalidRequest:
        head = shown(getattr(self._columns, name))
        return InvalidRequest(
            f"Line {number} of the bill: {shown(written)!r} under {head!r} is {what}; mend the line, or name another "
            "column.",
            param="bill",
        )


def _decoded(data: bytes) -> str:
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "gb18030"):  # the latter holds GBK
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InvalidRequest("The bill is neither UTF-8 nor GBK; save it as CSV in UTF-8.", param="bill")


def _rows(text: str) -> list[tuple[int, list[str]]]:
    """The rows that are not empty, with the number of the line that each ends on."""
    beginning = text[:4096]
    delimiter = max(",;\t", key=beginning.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InvalidRequest(f"Line {reader.line_num} of the bill is no CSV.", param="bill") from error


def _head(rows: Sequence[tuple[int, list[str]]], wanted: Columns) -> tuple[int, Columns]:
    """Where the head stands, below whatever the cloud writes above it, and the columns it names."""
    for at, (_, cells) in enumerate(rows[:_HEAD_WITHIN_ROWS]):
        amount = _column(cells, "amount", wanted.amount)
        found = Columns(_column(cells, "id", wanted.id), amount, _column(cells, "day", wanted.day))
        if amount is not None and (found.id is not None or found.day is not None):
            missing = [head for name in _HEADS if (head := getattr(wanted, name)) and head not in _heads(cells)]
            if not missing:
                rows[at][1][:] = _heads(cells)
                return at, found
    raise InvalidRequest(
        "The bill has no head with an amount and a request id or a day. Name its columns: "
        f"{', '.join(_named(wanted)) or 'id, amount, day'}.",
        param="bill",
    )


def _named(wanted: Columns) -> Iterator[str]:
    for name in _HEADS:
        if head := getattr(wanted, name):
            yield f"{name} {shown(head)!r} was not found"


def _heads(cells: Iterable[str]) -> list[str]:
    return [cell.strip() for cell in cells]


def _column(cells: Sequence[str], name: str, wanted: str | None) -> str | None:
    """The head of a column: the one that is wanted, else the first of the usual ones that is there."""
    if wanted is not None:
        return wanted if wanted in _heads(cells) else None
    by_plain = {_plain(cell): cell.strip() for cell in reversed(cells)}
    return next((by_plain[usual] for usual in _HEADS[name] if usual in by_plain), None)


def _plain(head: str) -> str:
    """A head without case, separators and what stands in brackets, as the unit does."""
    return _SEPARATORS.sub("", _IN_BRACKETS.sub("", head)).lower()


def _is_sum(cells: Sequence[str]) -> bool:
    first = next(cell for cell in cells if cell.strip())
    return _plain(first).startswith(_SUMS) and len(_plain(first)) <= 8
