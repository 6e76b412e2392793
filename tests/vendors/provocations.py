"""How each vendor says each of its errors: a gateway before a server that first verifies what it is sent, as the vendor
would: signature, token and body."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx2

from app.backends.error_table import ErrorRow, ErrorTable
from tests.api.pictures import data_url, picture, question
from tests.fakes import baidu, ccai, qianfan, spark
from tests.fakes.baidu import Baidu
from tests.fakes.ccai import CcaiAccount
from tests.fakes.http import Received, Reply
from tests.fakes.openai import DONE, SSE, event, reply
from tests.fakes.spark import SparkAccount
from tests.fakes.upstream import Upstream
from tests.fakes.websocket import Steps, WsReply
from tests.support.server import Served, serving

CANARY = "canary-7f3a1c"
SECRET = "5ecre7c0ffee5ecre7c0ffee5ecre7c0"
TEXT = "前半句"
TOKEN_PATH = "/oauth/2.0/token"

_SAID = f"{CANARY}: 供应商的原话 {SECRET}"
_SAID_IN_ASCII = f"{CANARY} {SECRET}"
_ASKED = question(data_url(picture((128, 128))), text="图里有什么？")

Answer: TypeAlias = "Reply | Steps"
Answering: TypeAlias = Callable[[Received], Reply | WsReply]


@dataclass(frozen=True, slots=True)
class Provocation:
    """One way in which a vendor says one thing.

    Args:
        shape: in words.
        model: of the gateway's, which is asked.
        answer: what the vendor's server says.
        calls: how often the vendor is asked, beside for tokens.
    """

    shape: str
    model: str
    answer: Answer
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Desk:
    """A gateway before one vendor's server."""

    served: Served
    up: Upstream
    verifying: Callable[[Answer], Answering]

    def ask(self, provocation: Provocation, *, stream: bool, language: str = "") -> httpx2.Response:
        self.up.forget()
        self.up.otherwise(self.verifying(provocation.answer))
        body = {"model": provocation.model, "messages": _ASKED, "stream": stream}
        headers = {"accept-language": language} if language else {}
        return self.served.client.post("/v1/chat/completions", json=body, headers=headers)


def section(name: str, **options: Any) -> str:
    """A backend and its model, both of this name."""
    model = options.pop("model")
    lines = [f"{option} = {json.dumps(value)}" for option, value in options.items()]
    route = f'routes = [{{ backend = "{name}", model = "{model}" }}]\ntariff = "unknown"'
    return "\n".join([f"[backends.{name}]", *lines, f"[models.{name}]", route, ""])


# ---------------------------------------------------------------------------------------------------------------- Spark

HANDSHAKE = {"401": (401, "HMAC signature does not match"), "403": (403, spark.BAD_DATE)}


def spark_shapes(_: ErrorTable, row: ErrorRow) -> Iterator[Provocation]:
    if row.code in HANDSHAKE:
        status, words = HANDSHAKE[row.code]
        yield Provocation("handshake", "spark", spark.refusal(status, f"{words} {_SAID}"))
    else:
        yield Provocation("frame", "spark", spark.error(int(row.code), _SAID))
        yield Provocation("frame without status", "spark", spark.error(int(row.code), _SAID, status=None))


def spark_late(_: ErrorTable, row: ErrorRow) -> Provocation | None:
    if row.code in HANDSHAKE:
        return None
    return Provocation("frame", "spark", [*spark.stream(TEXT, finish=False), *spark.error(int(row.code), _SAID)])


@contextmanager
def spark_desk(folder: Path) -> Iterator[Desk]:
    account = SparkAccount("a1b2c3d4", "0123456789abcdef0123456789abcdef", SECRET)

    def verifying(answer: Answer) -> Answering:
        steps = spark.whole("unused") if isinstance(answer, Reply) else answer
        good = account.serving(steps)

        def answered(request: Received) -> Reply | WsReply:
            verdict = good(request)
            return answer if isinstance(answer, Reply) and isinstance(verdict, WsReply) else verdict

        return answered

    with Upstream().in_thread() as up:
        options = {"app_id": "a1b2c3d4", "api_key": account.api_key, "api_secret": SECRET}
        models = section("spark", kind="spark", base_url=up.ws_url, model="imagev3", **options)
        with serving(folder, models, attempts=1) as served:
            yield Desk(served, up, verifying)


# -------------------------------------------------------------------------------------------------------------- Qianfan

QIANFAN_STATUSES = {
    "no_parameter_permission": 401,
    "invalid_model": 401,
    "invalid_appid": 401,
    "invalid_iam_token": 401,
    "coding_plan_api_key_not_allowed": 401,
    "system_unsafe": 403,
    "user_setting_unsafe": 403,
    "functions_unsafe": 403,
    "account_overdue": 403,
    "model_offline": 403,
    "access_denied": 403,
    "method_not_supported": 405,
    "Offline_batch_reasoning_refused": 429,
}


def qianfan_status(code: str) -> int:
    if "rate_limit" in code:
        return 429
    return 500 if code.lower().endswith(("internal_error", "interal_error")) else QIANFAN_STATUSES.get(code, 400)


def qianfan_shapes(_: ErrorTable, row: ErrorRow) -> Iterator[Provocation]:
    if row.code.isdecimal():
        said = {"error_code": int(row.code), "error_msg": _SAID, "id": "as-1"}
        yield Provocation("V1, status 200", "qianfan", reply(said))
        yield Provocation("V1, as an event", "qianfan", Reply(200, SSE, [event(said)]))
        return
    said = {"error": {"code": row.code, "message": _SAID, "type": "invalid_request_error"}, "id": "as-1"}
    yield Provocation("V2", "qianfan", reply(said, qianfan_status(row.code)))
    yield Provocation("flat", "qianfan", reply({"code": row.code, "message": _SAID}, qianfan_status(row.code)))
    if row.code == "invalid_model":
        yield Provocation("V2, 400", "qianfan", reply(said, 400))


def qianfan_late(_: ErrorTable, row: ErrorRow) -> Provocation:
    said: dict[str, Any] = {"error": {"code": row.code, "message": _SAID, "type": "x"}, "id": "as-1"}
    if row.code.isdecimal():
        said = {"error_code": int(row.code), "error_msg": _SAID, "id": "as-1"}
    steps = [qianfan.chunk({"role": "assistant", "content": TEXT}), event(said), DONE]
    return Provocation("event", "qianfan", Reply(200, SSE, steps))


@contextmanager
def qianfan_desk(folder: Path) -> Iterator[Desk]:
    def verifying(answer: Answer) -> Answering:
        assert isinstance(answer, Reply)
        return lambda _: answer

    key = f"bce-v3/ALTAK-fake/{SECRET}"
    with Upstream(api_key=key).in_thread() as up:
        models = section("qianfan", kind="qianfan", base_url=f"{up.url}/v2", api_key=key, model="deepseek-vl2")
        with serving(folder, models, attempts=1) as served:
            yield Desk(served, up, verifying)


# ----------------------------------------------------------------------------------------------------------------- CCAI


def ccai_shapes(_: ErrorTable, row: ErrorRow) -> Iterator[Provocation]:
    status = ccai.STATUSES.get(row.code, 400)
    small = {"code": row.code, "message": _SAID, "requestId": ccai.REQUEST_ID}
    yield Provocation("status", "ccai", ccai.error(row.code, _SAID, status=status))
    yield Provocation("status, lower case", "ccai", ccai.whole(small, status))
    yield Provocation("success false in 200", "ccai", ccai.failure(row.code, _SAID))
    yield Provocation("success false as an event", "ccai", Reply(200, ccai.SSE, [ccai_event(row)]))


def ccai_late(_: ErrorTable, row: ErrorRow) -> Provocation:
    first = ccai.event({"requestId": ccai.REQUEST_ID, "success": True, "text": TEXT, "finishReason": None})
    return Provocation("event", "ccai", Reply(200, ccai.SSE, [first, ccai_event(row)]))


def ccai_event(row: ErrorRow) -> bytes:
    return ccai.event({"requestId": ccai.REQUEST_ID, "success": False, "errorCode": row.code, "errorInfo": _SAID})


@contextmanager
def ccai_desk(folder: Path) -> Iterator[Desk]:
    ids = {"workspace_id": "llm-fake1234567890", "app_id": "a070a49c681f4a95a0f0123456789c35"}
    account = CcaiAccount("LTAI5tFakeAccessKeyId0000", SECRET, workspace_id=ids["workspace_id"], app_id=ids["app_id"])

    def verifying(answer: Answer) -> Answering:
        assert isinstance(answer, Reply)
        return account.serving(answer)

    with Upstream().in_thread() as up:
        keys = {"access_key_id": account.access_key_id, "access_key_secret": SECRET}
        models = section("ccai", kind="ccai", base_url=up.url, model="app", **keys, **ids)
        with serving(folder, models, attempts=1, public_url="https://pictures.example") as served:
            yield Desk(served, up, verifying)


# ---------------------------------------------------------------------------------------------------------------- Baidu

CLOUD_STATUSES = {
    "AccessDenied": 403,
    "OptInRequired": 403,
    "InvalidAccessKeyId": 403,
    "NotFound": 403,
    "SignatureDoesNotMatch": 403,
    "InvalidVersion": 404,
    "PreconditionFailed": 412,
    "InternalError": 500,
}


def baidu_shapes(kind: str, table: ErrorTable, row: ErrorRow) -> Iterator[Provocation]:
    """How Baidu says it to one kind, whose models are named alike."""
    match table.vendor:
        case "Baidu Cloud":
            status = CLOUD_STATUSES.get(row.code, 400)
            both = baidu.cloud_error(status, row.code, _SAID_IN_ASCII)
            yield Provocation("headers and body", f"{kind}-signed", both)
            body = {"code": row.code, "message": _SAID, "requestId": "r-1"}
            yield Provocation("body", f"{kind}-signed", baidu.json_reply(body, status))
            told = {"x-bce-error-code": str(status), "x-bce-error-message": f"{row.code}, cause: {_SAID_IN_ASCII}"}
            yield Provocation("headers", f"{kind}-signed", baidu.json_reply({}, status, told))
        case "Baidu tokens":
            description = _SAID if row.code == "invalid_client" else row.code
            said = {"error": "invalid_client", "error_description": description}
            yield Provocation("no token", f"{kind}-locked", baidu.json_reply(said, 401), calls=0)
        case _:
            said_of = baidu.error(int(row.code), _SAID)
            calls = 2 if row.code in {"110", "111"} else 1  # the token is renewed once
            yield Provocation("status 200", f"{kind}-token", said_of, calls=calls)
            yield Provocation("status 200, signed", f"{kind}-signed", said_of)


def chatocr_shapes(table: ErrorTable, row: ErrorRow) -> Iterator[Provocation]:
    yield from baidu_shapes("chatocr", table, row)
    if row.code.isdecimal():
        bare = json.dumps({"error_code": int(row.code), "error_msg": _SAID}).encode() + b"\n"
        yield Provocation("a bare line", "chatocr-signed", Reply(200, SSE, [bare]))
        echo = baidu.data({"response": {"error_no": int(row.code), "error_msg": _SAID, "result": None}})
        yield Provocation("in the echo", "chatocr-signed", Reply(200, SSE, [echo]))


def chatocr_late(_: ErrorTable, row: ErrorRow) -> Provocation | None:
    if not row.code.isdecimal():
        return None  # of credentials, which are judged before
    first = baidu.data({"result": TEXT, "sentence_id": 0, "is_end": False})
    wrong = baidu.data({"error_code": int(row.code), "error_msg": _SAID})
    return Provocation("packet", "chatocr-token", Reply(200, SSE, [first, wrong]))


def baidu_ocr_shapes(table: ErrorTable, row: ErrorRow) -> Iterator[Provocation]:
    return baidu_shapes("ocr", table, row)


def never_late(_: ErrorTable, __: ErrorRow) -> None:
    """Its answers come whole."""


@contextmanager
def baidu_desk(folder: Path) -> Iterator[Desk]:
    server = Baidu(secret_key=SECRET, bos_only=False)

    def verifying(answer: Answer) -> Answering:
        assert isinstance(answer, Reply)

        def answered(request: Received) -> Reply:
            if request.path == TOKEN_PATH and "client_id=locked" in request.query:
                return answer
            verdict = server(request)
            sound = verdict.status == 200 and b'"error_code"' not in verdict.wire
            return answer if sound and request.path != TOKEN_PATH else verdict

        return answered

    with Upstream().in_thread() as up:
        kinds: dict[str, dict[str, Any]] = {
            "chatocr": {"kind": "chatocr", "endpoint": server.endpoint, "bos_only": False, "model": "uuid-chatocr"},
            "ocr": {"kind": "baidu_ocr", "model": "general"},
        }
        keys = {
            "token": server.application,
            "signed": server.account,
            "locked": {"api_key": "locked", "secret_key": SECRET},
        }
        models = "".join(
            section(f"{kind}-{way}", base_url=up.url, **options, **pair)
            for kind, options in kinds.items()
            for way, pair in keys.items()
        )
        with serving(folder, models, attempts=1, public_url="https://pictures.example") as served:
            yield Desk(served, up, verifying)


@dataclass(frozen=True, slots=True)
class Vendor:
    """How a kind's errors are provoked: before any text, and after some.

    Args:
        desk: opens the gateway and the server; kinds of one vendor share it.
        good: an answer to a sound request, and the models that are asked.
    """

    desk: Callable[[Path], AbstractContextManager[Desk]]
    early: Callable[[ErrorTable, ErrorRow], Iterator[Provocation]]
    late: Callable[[ErrorTable, ErrorRow], Provocation | None]
    good: tuple[Provocation, ...]


def _good(answer: Answer, *models: str) -> tuple[Provocation, ...]:
    return tuple(Provocation("a good answer", model, answer) for model in models)


VENDORS = {
    "baidu_ocr": Vendor(
        baidu_desk,
        baidu_ocr_shapes,
        never_late,
        _good(baidu.json_reply({"words_result": [{"words": TEXT}]}), "ocr-token", "ocr-signed"),
    ),
    "ccai": Vendor(
        ccai_desk, ccai_shapes, ccai_late, _good(ccai.whole({"text": TEXT, "finishReason": "stop"}), "ccai")
    ),
    "chatocr": Vendor(
        baidu_desk,
        chatocr_shapes,
        chatocr_late,
        _good(baidu.json_reply({"result": TEXT}), "chatocr-token", "chatocr-signed"),
    ),
    "qianfan": Vendor(qianfan_desk, qianfan_shapes, qianfan_late, _good(qianfan.answer(TEXT), "qianfan")),
    "spark": Vendor(spark_desk, spark_shapes, spark_late, _good(spark.whole(TEXT), "spark")),
}
