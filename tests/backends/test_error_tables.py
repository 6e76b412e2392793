"""The vendors' error tables hold every code that the vendors' pages document, each with something to do in two
languages."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from app.api.errors import answered_as, error_response
from app.backends.error_table import ErrorRow, ErrorTable
from app.backends.registry import KINDS, spec_of
from app.core.errors import BackendBusy, BackendProtocolError, BackendRefused, BackendUnavailable, BackendUsedUp

DOCUMENTED = {
    # iFlytek: the image page's own table, then the table that all Spark services share, then the cloud's own
    "Spark": "10003 10004 10005 10006 10013 10022 10029 10041 10907 "
    "10000 10001 10002 10007 10008 10009 10010 10011 10012 10014 10015 10016 10017 10019 10021 10110 10163 10222 10223 "
    "10404 10910 11200 11201 11202 11203 11210 11221",
    # "错误码说明" of qianfan-api
    "Qianfan": "malformed_json invalid_model invalid_messages characters_too_long tokens_too_long invalid_argument "
    "invalid_image_url image_url_unsafe invalid_plugin_argument invalid_image_generation_prompt "
    "invalid_image_generation_refer_image no_parameter_permission invalid_appid invalid_iam_token system_unsafe "
    "user_setting_unsafe functions_unsafe account_overdue model_offline method_not_supported rpm_rate_limit_exceeded "
    "tpm_rate_limit_exceeded input_tpm_rate_limit_exceeded output_tpm_rate_limit_exceeded user_rate_limit_exceeded "
    "cluster_rate_limit_exceeded cluster_rpm_rate_limit_exceeded cluster_tpm_rate_limit_exceeded "
    "preemptible_rate_limit_exceeded Offline_batch_reasoning_refused internal_error dispatch_internal_error "
    "image_genration_interal_error 18 110 111 336100 336501 336502",
    # the page of GeneralAnalyzeImage, then what Alibaba's gateway answers for all its services
    "CCAI": "CCAI.InvalidParam.NotExist CCAI.ParamInvalid.IllegalParamValue CCAI.Throttling.Qpm CCAI.Throttling.Qps "
    "CCAI.ParamNotfound.MissParam CCAI.TenantPermission.NoAuth CCAI.IllegalPermission.NoAuth CCAI.InternalError "
    "SignatureDoesNotMatch InvalidTimeStamp.Expired InvalidTimeStamp.Format SignatureNonceUsed "
    "InvalidAccessKeyId.NotFound MissingParameter Throttling Throttling.User ServiceUnavailable Forbidden.RAM",
    # 智慧图问's page and the codes all of Baidu's AI services share, then those of OCR
    "Baidu": "216100 216400 216203 337008 1 2 3 4 6 13 14 15 17 18 19 100 110 111 336000 336001 336002 336003 336004 "
    "336005 336100 336101 336104 336105 336501 336502 216101 216102 216103 216110 216200 216201 216202 216630 282000 "
    "282111 282112 282113 282114 282501",
}


def tables() -> Iterator[ErrorTable]:
    yield from {id(table): table for kind in KINDS for table in spec_of(kind).errors}.values()


def rows() -> list[tuple[str, ErrorRow]]:
    return [(table.vendor, row) for table in tables() for row in table.rows.values()]


@pytest.mark.parametrize("vendor", DOCUMENTED)
def test_no_documented_code_is_missing(vendor: str) -> None:
    known = {code for table in tables() if table.vendor.startswith(vendor) for code in table.rows}
    assert set(DOCUMENTED[vendor].split()) <= known


def test_every_table_says_where_it_was_read_and_when() -> None:
    assert all(re.search(r"read 20\d\d-\d\d-\d\d", table.source) for table in tables())


@pytest.mark.parametrize(("vendor", "row"), rows(), ids=lambda value: getattr(value, "code", value))
def test_every_code_has_one_sentence_in_each_language(vendor: str, row: ErrorRow) -> None:
    assert row.english.isascii()
    assert re.fullmatch(r"[A-Z].{20,220}\.", row.english), row.english
    assert re.fullmatch(r".{6,100}。", row.chinese), row.chinese
    assert re.search("[\u4e00-\u9fff]{4}", row.chinese), row.chinese
    assert row.code not in row.english, "a caller of ours does not know the vendor's codes"
    assert row.error is not BackendProtocolError, f"{vendor} {row.code} is documented, so it means something"


@pytest.mark.parametrize(("vendor", "row"), rows(), ids=lambda value: getattr(value, "code", value))
def test_credentials_of_ours_are_never_the_callers_fault(vendor: str, row: ErrorRow) -> None:
    status, _ = answered_as(row.error)
    assert status in {400, 429, 502, 503, 504}, (
        f"{vendor} {row.code}: {status} would tell callers that their key is wrong"
    )


def test_waits_and_other_routes_follow_from_the_class() -> None:
    of = {row.code: row for table in tables() if table.vendor == "Qianfan" for row in table.rows.values()}
    assert of["rpm_rate_limit_exceeded"].retry == "later"
    assert of["internal_error"].retry == "elsewhere"
    assert of["invalid_messages"].retry == "never"


def test_what_is_used_up_for_the_day_is_not_to_be_asked_again() -> None:
    used_up = {row.code for _, row in rows() if row.error is BackendUsedUp}
    assert used_up == {"11201", "17", "19"}
    assert answered_as(BackendUsedUp) == (429, "insufficient_quota")
    headers = error_response(BackendUsedUp("Used up.")).headers
    assert (headers["x-should-retry"], "retry-after" in headers) == ("false", False)


def test_code_of_no_table_is_said_to_be_unknown() -> None:
    error = next(tables()).row("zzz").raised(backend="b", detail="x" * 10_000)
    assert (type(error), error.backend_code, len(error.detail)) == (BackendProtocolError, "zzz", 500)


def test_wait_that_the_vendor_asks_for_is_kept_where_waiting_helps() -> None:
    busy = ErrorRow("1", BackendBusy, "Busy.", "忙。").raised(backend="b", retry_after_s=7)
    down = ErrorRow("2", BackendUnavailable, "Down.", "停。").raised(backend="b", retry_after_s=7)
    refused = ErrorRow("3", BackendRefused, "No.", "否。").raised(backend="b", retry_after_s=7)
    assert [error.retry_after_s for error in (busy, down, refused)] == [7, 7, None]


def test_a_code_cannot_stand_in_a_table_twice() -> None:
    row = ErrorRow("1", BackendUnavailable, "Down.", "停。")
    with pytest.raises(ValueError, match="twice"):
        ErrorTable.of("Vendor", "page", row, row)
