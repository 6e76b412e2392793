"""Bills of clouds, as their consoles hand them out."""

from __future__ import annotations

import pytest

from app.accounts.bills import Bill, Columns
from app.core.errors import InvalidRequest


def read(text: str, columns: Columns = Columns(), *, encoding: str = "utf-8") -> Bill:  # noqa: B008 - frozen
    return Bill.read(text.encode(encoding), columns)


def refusal(text: str | bytes, columns: Columns = Columns()) -> str:  # noqa: B008 - frozen
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(InvalidRequest) as caught:
        Bill.read(data, columns)
    assert caught.value.param == "bill"
    return str(caught.value)


@pytest.mark.parametrize(
    ("head", "columns"),
    [
        ("request_id,amount,date", Columns("request_id", "amount", "date")),
        ("Request ID,Cost,Time", Columns("Request ID", "Cost", "Time")),
        ("RequestId,PretaxAmount,UsageStartTime", Columns("RequestId", "PretaxAmount", "UsageStartTime")),
        ("请求ID,应付金额,账单日期", Columns("请求ID", "应付金额", "账单日期")),
        ("调用ID,应付金额（元）,消费时间", Columns("调用ID", "应付金额（元）", "消费时间")),
        ("日志 ID,费用(CNY),日期", Columns("日志 ID", "费用(CNY)", "日期")),
        ("sid,金额【元】,请求时间", Columns("sid", "金额【元】", "请求时间")),
    ],
)
def test_columns_are_found_by_the_heads_that_clouds_write(head: str, columns: Columns) -> None:
    bill = read(f"{head}\nr1,0.5,2026-11-28 09:30:00\n")
    assert bill.columns == columns
    [line] = bill.lines
    assert (line.number, line.request_id, line.micros, line.day) == (2, "r1", 500_000, "2026-11-28")


def test_what_is_to_be_paid_comes_before_what_it_would_cost_without_a_discount() -> None:
    assert read("金额,应付金额,请求ID\n2,1,r\n").lines[0].micros == 1_000_000


def test_named_columns_win_over_the_usual_ones() -> None:
    bill = read("id,amount,list price,booked\nx,1,2,2026-11-28\n", Columns(amount="list price", day="booked"))
    assert (bill.lines[0].micros, bill.lines[0].day) == (2_000_000, "2026-11-28")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "gb18030", "utf-16"])
def test_bill_is_read_in_the_encodings_that_spreadsheets_write(encoding: str) -> None:
    bill = read("产品,请求ID,应付金额\n视觉理解,r1,1.5\n", encoding=encoding)
    assert (bill.lines[0].text[0], bill.lines[0].micros) == ("视觉理解", 1_500_000)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_cells_are_parted_by_what_the_file_parts_them_by(delimiter: str) -> None:
    assert read("id,amount\nr1,1\n".replace(",", delimiter)).lines[0].micros == 1_000_000


def test_head_may_stand_below_what_the_cloud_writes_above_it_and_sums_are_no_lines() -> None:
    bill = read("账单明细,,\n账号,u1,\n\n请求ID,金额,日期\nr1,1,2026-11-28\n,,\n合计,1,\n")
    assert [(line.number, line.request_id) for line in bill.lines] == [(5, "r1")]


@pytest.mark.parametrize(
    ("written", "micros"),
    [
        ("0.000001", 1), ("¥1,234.50", 1_234_500_000), ("￥ 2", 2_000_000), ("3 元", 3_000_000), ("CNY 4", 4_000_000),
        ("-0.5", -500_000), ("1.2E-05", 12), ("0", 0),
    ],
)  # fmt: skip
def test_amounts_are_read_as_people_and_programs_write_them(written: str, micros: int) -> None:
    bill = read(f'id;amount;x;y\nr1;"{written}";;\n')
    assert (bill.lines[0].micros, bill.rounded) == (micros, 0)


def test_amounts_finer_than_a_micro_yuan_are_rounded_half_up_and_counted() -> None:
    bill = read("id,amount\na,0.00000049\nb,0.0000005\nc,0.0000010\nd,-0.0000005\n")
    assert [line.micros for line in bill.lines] == [0, 1, 1, -1]
    assert bill.rounded == 3


@pytest.mark.parametrize(
    "written", ["2026-11-08", "2026/11/8", "2026.11.08", "20261108", "2026年11月8日", " 2026-11-08T23:59:59+08:00"]
)
def test_days_are_read_in_the_forms_that_clouds_write(written: str) -> None:
    assert read(f"date,amount\n{written},1\n").lines[0].day == "2026-11-08"


def test_days_of_a_bill_are_its_first_and_last() -> None:
    assert read("date,amount\n2026-11-08,1\n2026-10-31,1\n").days == ("2026-10-31", "2026-11-08")
    assert read("id,amount\nr,1\n").days is None


def test_line_without_an_id_has_none() -> None:
    assert [line.request_id for line in read('id,amount,date\n,1,2026-11-08\n"\'r1",1,2026-11-08\n').lines] == [
        None,
        "r1",
    ]


def test_short_line_lacks_what_it_does_not_hold() -> None:
    assert read("amount,date,id\n1,2026-11-08\n").lines[0].request_id is None


@pytest.mark.parametrize("written", ["", "free", "NaN", "Infinity", "1e30"])
def test_amount_that_is_none_is_told_with_its_line(written: str) -> None:
    said = refusal(f"id,amount\nr1,1\nr2,{written}\n")
    assert said.startswith("Line 3 of the bill")
    assert "'amount'" in said


@pytest.mark.parametrize("written", ["", "yesterday", "2026-13-01", "202611081", "2026-11-311"])
def test_day_that_is_none_is_told_with_its_line(written: str) -> None:
    assert refusal(f"date,amount\n{written},1\n").startswith("Line 2 of the bill")


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "amount\n1\n", "request_id,model\nr,m\n", '"\n'])
def test_what_is_no_bill_is_told_what_a_head_needs(text: str) -> None:
    assert "Name its columns: id, amount, day" in refusal(text)


def test_named_column_that_is_not_there_is_named() -> None:
    assert "amount 'netto' was not found" in refusal("id,amount\nr,1\n", Columns(amount="netto"))
    assert "day 'booked' was not found" in refusal("id,amount\nr,1\n", Columns(day="booked"))


def test_bill_without_lines_is_told_so() -> None:
    assert "no lines" in refusal("id,amount\n")


def test_bytes_that_are_no_text_are_told_so() -> None:
    assert "neither UTF-8 nor GBK" in refusal(b"PK\x03\x04\xff\xff\xff\x80")


def test_text_that_is_no_csv_is_told_so() -> None:
    assert "is no CSV" in refusal('id,amount\nr,"' + "1" * 200_000 + '"\n')
