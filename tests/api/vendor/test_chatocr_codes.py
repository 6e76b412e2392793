"""Every error of ours, as a code of the vendor's."""

from __future__ import annotations

import json

from app.api.vendor.chatocr_wire import code_of, error_body
from app.core import errors


def test_every_error_has_a_code_of_the_vendors() -> None:
    kinds: list[type[errors.GatewayError]] = [errors.RequestError, errors.BackendError, errors.InternalError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    codes = {kind.__name__: code_of(kind("x")) for kind in kinds}
    assert {name for name, code in codes.items() if code == 336000} == {"RequestError", "BackendError", "InternalError"}
    assert (codes["ImageRejected"], codes["RateLimited"], codes["QuotaExceeded"]) == (216203, 18, 19)
    for kind in kinds:
        assert json.loads(error_body(kind("x"), 1))["error_msg"].endswith(": x")
