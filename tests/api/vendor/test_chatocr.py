"""智慧图问 as its clients see it: every field of the vendor's page, and every error."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from time import process_time
from typing import Any

import httpx2
import pytest

from app.api.vendor.chatocr_wire import PluginBody, to_request
from tests.api.pictures import data_url, picture
from tests.api.vendor.conftest import MODELS, PICTURE, PLUGIN, Vendor
from tests.fakes import openai
from tests.fakes.http import Cut, Gate, Reply
from tests.fakes.upstream import Upstream
from tests.support.server import serving
from tests.transports.drawn import lines, png


def packets(response: httpx2.Response) -> list[Any]:
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.text.split("\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def refusal(response: httpx2.Response) -> tuple[int, str]:
    """The error's code and message, which come as the vendor's do."""
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error_code", "error_msg", "log_id"}
    return body["error_code"], body["error_msg"]


def said(upstream: Upstream) -> list[tuple[str, str]]:
    """What the backend was asked: role and text of each message."""
    return [
        (message["role"], content if isinstance(content, str) else content[-1]["text"])
        for message in upstream.requests[0].json["messages"]
        for content in [message["content"]]
    ]


def test_whole_answer_has_result_and_log_id(vendor: Vendor, upstream: Upstream) -> None:
    upstream.answer(openai.answer("某某大学"))
    response = vendor.ask()
    answer = response.json()
    assert answer == {"log_id": answer["log_id"], "result": "某某大学"}
    assert f"{answer['log_id'] * 2:016x}"[:15] == response.headers["x-request-id"][:15]
    assert 2**53 < answer["log_id"] < 2**63
    [asked] = upstream.requests
    assert said(upstream) == [("user", "图里有什么?")]
    assert len(asked.pictures) == 1
    row = vendor.served.booked(response)
    assert (row.key_id, row.model, row.outcome, row.stream) == (vendor.ak, "seer", "finished", False)


def test_sample_picture_is_fetched_and_read_with_rectangles(vendor: Vendor) -> None:
    fields = {"verbose": True, "fileurl": f"{vendor.host}/screenshot.png?x=1"}
    answer = vendor.ask("testxxx", query="这上面有什么文字?", **fields).json()
    assert answer.keys() == {"log_id", "result", "meta_info"}
    meta = answer["meta_info"]
    asked = {"query": "这上面有什么文字?", "filename": "screenshot.png"}
    assert meta.keys() == {"plugin_id", "request", "requests", "response"}
    assert (meta["plugin_id"], meta["request"], meta["requests"]) == ("uuid-chatocr", asked, asked)
    response = meta["response"]
    assert response.keys() == {"error_no", "error_msg", "format", "result", "logid"}
    assert (response["error_no"], response["error_msg"], response["format"]) == (0, "success", "json")
    assert 0 <= response["logid"] < 2**32
    result = response["result"]
    assert (result["llm_result"], result["classify_ret"]) == (answer["result"], None)
    words = {item["word"]: item["rect"] for item in result["ocr_result"]}
    rect = next(rect for word, rect in words.items() if "系统设置" in word)
    assert rect.keys() == {"left", "top", "width", "height"}
    assert all(type(number) is int and number > 0 for each in words.values() for number in each.values())
    assert rect["width"] > rect["height"]
    assert "系统设置" in answer["result"]


def test_stream_is_deltas_and_an_empty_end(vendor: Vendor, upstream: Upstream) -> None:
    upstream.answer(openai.stream("某某", Gate(), "大学"))
    gate = upstream._script[0][0].steps[2]  # type: ignore[union-attr]  # the reply above
    assert isinstance(gate, Gate)
    gate.open()
    response = vendor.ask(stream=True)
    *deltas, last = packets(response)
    assert "".join(packet["result"] for packet in deltas) == "某某大学"
    assert all(not packet["is_end"] for packet in deltas)
    assert last == {"result": "", "sentence_id": len(deltas), "is_end": True, "log_id": last["log_id"]}
    assert [packet["sentence_id"] for packet in deltas] == list(range(len(deltas)))
    assert {packet["log_id"] for packet in deltas} == {last["log_id"]}
    assert "[DONE]" not in response.text
    assert vendor.served.booked(response).stream


def test_verbose_stream_begins_with_an_echo_that_holds_the_answer(vendor: Vendor) -> None:
    page = data_url(png(lines("First Settings", "Second line", "Third line", size_px=(480, 220))[0]))
    response = vendor.ask("testxxx", stream=True, verbose=True, fileurl=page)
    echo, *deltas, last = packets(response)
    assert echo.keys() == {"plugin_id", "request", "requests", "response", "log_id"}
    result = echo["response"]["result"]
    assert result["llm_result"] == "".join(packet["result"] for packet in deltas)
    assert len(deltas) == 3
    assert [item["word"] for item in result["ocr_result"]] == result["llm_result"].splitlines()
    assert result["llm_result"].splitlines()[0] == "First Settings"
    assert last["is_end"]
    assert vendor.served.booked(response).model == "chatocr-vision"


def test_silent_stream_is_kept_alive_by_empty_lines_and_nothing_else(eager: Vendor, upstream: Upstream) -> None:
    """The vendor's SDK takes any line that does not begin with `data: ` for a fault."""
    gate = Gate()
    upstream.answer(openai.stream(gate, "late"))
    body = {"query": "q", "fileurl": PICTURE, "stream": True}
    with eager.served.client.stream("POST", f"{PLUGIN}/seer/", json=body) as response:
        lines = response.iter_lines()
        assert [next(lines), next(lines)] == ["", ""]
        gate.open()
        rest = [line for line in lines if line]
    assert all(line.startswith("data: {") for line in rest)
    assert "late" in rest[0]


def test_long_delta_is_told_in_lines_that_readers_take(vendor: Vendor, upstream: Upstream) -> None:
    upstream.answer(openai.stream("长" * 50_000))
    response = vendor.ask(stream=True)
    assert max(map(len, response.content.split(b"\n"))) < 64 * 1024
    assert "".join(packet["result"] for packet in packets(response)) == "长" * 50_000


def test_thoughts_are_no_part_of_the_answer(vendor: Vendor, upstream: Upstream) -> None:
    upstream.answer(openai.stream({"reasoning_content": "hm"}, "yes"))
    assert "".join(packet["result"] for packet in packets(vendor.ask(stream=True))) == "yes"


@pytest.mark.parametrize("path", [f"{PLUGIN}/team/seer/", f"{PLUGIN}/seer", f"{PLUGIN}//seer/"])
def test_model_of_the_catalogue_may_be_named_in_the_path(vendor: Vendor, upstream: Upstream, path: str) -> None:
    upstream.answer(openai.answer("yes"))
    asked = vendor.served.client.post(path, json={"query": "q", "fileurl": PICTURE})
    assert asked.json()["result"] == "yes"


@pytest.mark.parametrize(("backend", "answers"), [("fake", "chatocr-vision"), ("unset", "local-ocr-vision")])
def test_name_from_the_vendors_console_leads_to_the_recipe_where_it_can_answer(
    upstream: Upstream, tmp_path: Path, backend: str, answers: str
) -> None:
    unset = '[backends.unset]\nkind = "openai"\nbase_url = "env::TUWEN_TEST_URL_THAT_IS_NEVER_SET"\n'
    recipe = f'[models."chatocr-vision"]\nroutes = [{{ backend = "{backend}", model = "r" }}]\n'
    upstream.answer(openai.answer("yes"))
    with serving(tmp_path, MODELS.format(url=upstream.url) + unset + recipe) as served:
        page = data_url(png(lines("A line", size_px=(240, 80))[0]))
        body = {"query": "q", "fileurl": page}
        assert served.booked(served.client.post(f"{PLUGIN}/testxxx/", json=body)).model == answers


def test_content_type_and_unknown_fields_do_not_matter(vendor: Vendor, upstream: Upstream) -> None:
    upstream.answer(openai.answer("yes"))
    body = {"query": "q", "fileurl": PICTURE, "extra_parameters": {"request_source": "x"}, "user_id": 7}
    asked = vendor.served.post(json.dumps(body).encode(), f"{PLUGIN}/seer/", content_type="text/plain")
    assert asked.json()["result"] == "yes"


def test_sampling_passes(vendor: Vendor, upstream: Upstream) -> None:
    upstream.answer(openai.answer("yes"))
    vendor.ask("scorer", llm={"temperature": 0.1, "top_p": 0.9, "penalty_score": 1.5, "other": 1})
    sent = upstream.requests[0].json
    assert (sent["temperature"], sent["top_p"], sent["penalty_score"]) == (0.1, 0.9, 1.5)


@pytest.mark.parametrize(
    ("query", "variables", "filled"),
    [
        ("{school}在哪", {"school": "某某大学"}, "某某大学在哪"),
        ("{{ school }}和{n}", {"school": "{n}", "n": 3}, "{n}和3"),
        ("{schools}{school}", {"school": "a", "schools": "b"}, "ba"),
        ("{school}", {}, "{school}"),
        ("{school}", {"": "x"}, "{school}"),
        ("{{ }}{}", {"": "x"}, "{{ }}{}"),
        ("{other}", {"school": "x"}, "{other}"),
        ("{list}", {"list": [1, "二"]}, '[1,"二"]'),
        ("{{{a b}}} { a b }", {"a b": "x"}, "{x} { a b }"),
        ("{a}" * 100, {"a": "x" * 1000}, "x" * 100_000),
    ],
)
def test_variables_are_filled_in(
    vendor: Vendor, upstream: Upstream, query: str, variables: dict[str, Any], filled: str
) -> None:
    upstream.answer(openai.answer("yes"))
    vendor.ask(query=query, input_variables=variables)
    assert said(upstream) == [("user", filled)]


@pytest.mark.parametrize(
    ("query", "name", "filled"), [("{a}", "b" * 3_000_000, "1"), ("{{" + " " * 997, "b", "{{" + " " * 997)]
)
def test_names_and_blanks_without_end_take_no_time(query: str, name: str, filled: str) -> None:
    body = PluginBody(query=query, fileurl="x", input_variables={"a": "1", name: "2"})
    start_s = process_time()
    [question] = to_request(body, "m").messages
    assert process_time() - start_s < 0.2  # of the event loop's
    assert question.text == filled


TURNS = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "您好"}]


@pytest.mark.parametrize(
    ("history", "earlier"),
    [
        (TURNS, [("user", "你好"), ("assistant", "您好")]),
        ({"messages": TURNS}, [("user", "你好"), ("assistant", "您好")]),
        (TURNS[0], [("user", "你好")]),
        ([{"role": "system", "content": "简短"}, {"role": "assistant", "content": None}], [("system", "简短")]),
        ([], []),
        ({}, []),
        (None, []),
    ],
)
def test_history_comes_before_the_question(
    vendor: Vendor, upstream: Upstream, history: Any, earlier: list[tuple[str, str]]
) -> None:
    upstream.answer(openai.answer("yes"))
    vendor.ask(history=history)
    assert said(upstream) == [*earlier, ("user", "图里有什么?")]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"query": ""}, (216100, "query")),
        ({"query": "  "}, (216100, "query")),
        ({"query": "长" * 1001}, (216100, "1000")),
        ({"query": None}, (216100, "query")),
        ({"query": 7}, (216100, "query")),
        ({"fileurl": " "}, (216100, "fileurl")),
        ({"fileurl": ["x"]}, (216100, "fileurl")),
        ({"stream": "yes"}, (216100, "stream")),
        ({"verbose": 3}, (216100, "verbose")),
        ({"llm": []}, (216100, "llm")),
        ({"llm": {"temperature": "hot"}}, (216100, "llm.temperature")),
        ({"llm": {"temperature": 2.5}}, (216100, "llm.temperature")),
        ({"llm": {"top_p": -1}}, (216100, "llm.top_p")),
        ({"llm": {"penalty_score": 0.5}}, (216100, "llm.penalty_score")),
        ({"input_variables": ["x"]}, (216100, "input_variables")),
        ({"query": "{a}" * 101, "input_variables": {"a": "x" * 1000}}, (216100, "100000")),
        ({"history": "x"}, (216100, "history")),
        ({"history": [{"content": "x"}]}, (216100, "history: [0]: Object missing required field role")),
        ({"history": [{"role": "function", "content": "x"}]}, (216100, "history")),
        ({"plugins": ["uuid-weatherforecast"]}, (337008, "plugins")),
        ({"plugins": ["a", "b", "c", "d"]}, (337008, "plugins")),
        ({"plugins": "uuid-chatocr"}, (337008, "plugins")),
        ({"fileurl": "ftp://x/y.png"}, (216203, "http")),
        ({"fileurl": "http://127.0.0.1:9/y.png"}, (216203, "public")),
        ({"fileurl": "http://["}, (216203, "host")),
        ({"fileurl": "data:image/png;base64,AAAA"}, (216203, "fileurl")),
        ({"fileurl": data_url(picture((96, 79)))}, (216203, "80")),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_request_that_cannot_be_meant_is_refused_as_the_vendor_does(
    vendor: Vendor, upstream: Upstream, fields: dict[str, Any], told: tuple[int, str], stream: bool
) -> None:
    code, words = refusal(vendor.ask(**{"stream": stream, "verbose": stream, **fields}))
    assert code == told[0]
    assert told[1] in words
    assert upstream.requests == []


@pytest.mark.parametrize("fields", [{"plugins": None}, {"plugins": []}, {"stream": None, "llm": None, "verbose": None}])
def test_fields_may_be_left_empty(vendor: Vendor, upstream: Upstream, fields: dict[str, Any]) -> None:
    upstream.answer(openai.answer("yes"))
    assert vendor.ask(**fields).json()["result"] == "yes"


@pytest.mark.parametrize("body", [b"", b"{", b'{"query": "\xff"}', b'{"query": "a", "query": "b"}', b'{"query":\n}'])
def test_malformed_json_has_a_code_of_its_own(vendor: Vendor, body: bytes) -> None:
    assert refusal(vendor.served.post(body, f"{PLUGIN}/seer/"))[0] == 336002


def test_json_that_is_no_object_is_a_wrong_argument(vendor: Vendor) -> None:
    assert refusal(vendor.served.post(b"[]", f"{PLUGIN}/seer/"))[0] == 216100


def test_form_and_large_body_are_refused(vendor: Vendor, upstream: Upstream) -> None:
    assert refusal(vendor.served.post(b"x", f"{PLUGIN}/seer/", content_type="multipart/form-data"))[0] == 336002
    assert refusal(vendor.ask(fileurl="data:image/png;base64," + "A" * 2**20))[0] == 216100
    upstream.answer(openai.answer("yes"))
    assert vendor.ask(fileurl=data_url(picture((400, 400), "BMP"), "image/bmp")).json()["result"] == "yes"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (openai.error(429), 336100),
        (openai.error(503), 216400),
        (openai.error(401), 216400),
        (openai.error(400, code="content_filter"), 216100),
        (Reply(200, {}, [b"<html>"]), 216400),
    ],
)
@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"stream": True, "verbose": True}])
def test_fault_of_the_backend_before_the_first_packet(
    vendor: Vendor, upstream: Upstream, reply: Reply, code: int, fields: Mapping[str, Any]
) -> None:
    upstream.answer(reply, reply)
    response = vendor.ask(**fields)
    assert refusal(response)[0] == code
    assert vendor.served.booked(response).outcome == "failed"


def test_fault_in_mid_stream_is_a_packet_and_the_end(vendor: Vendor, upstream: Upstream) -> None:
    upstream.answer(Reply(200, openai.SSE, [*openai.stream("half").steps[:2], Cut()]))
    response = vendor.ask(stream=True)
    half, fault = packets(response)
    assert half["result"] == "half"
    assert fault["error_code"] == 216400
    assert "is_end" not in fault
    assert vendor.served.booked(response).outcome == "failed"


def test_fault_after_the_headers_had_to_go_is_a_packet(eager: Vendor, upstream: Upstream) -> None:
    gate = Gate()
    upstream.answer(Reply(200, openai.SSE, [gate, Cut()]), Reply(200, openai.SSE, [Cut()]))
    body = {"query": "q", "fileurl": PICTURE, "stream": True}
    with eager.served.client.stream("POST", f"{PLUGIN}/seer/", json=body) as response:
        lines = response.iter_lines()
        assert next(lines) == ""
        gate.open()
        [fault] = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    assert fault["error_code"] == 216400


def test_whole_answer_that_breaks_off_is_an_error(vendor: Vendor, upstream: Upstream) -> None:
    upstream.answer(Reply(200, openai.SSE, [*openai.stream("half").steps[:2], Cut()]))
    assert refusal(vendor.ask(stream=True, verbose=True))[0] == 216400


def test_errors_are_told_in_the_callers_language(vendor: Vendor, upstream: Upstream) -> None:
    told = []
    for headers in ({}, {"accept-language": "en"}):
        upstream.answer(openai.error(400, code="content_filter"))
        body = {"query": "q", "fileurl": PICTURE}
        asked = vendor.served.client.post(f"{PLUGIN}/seer/", json=body, headers=headers)
        told.append(refusal(asked)[1].partition(": ")[2])
    assert re.search("[\u4e00-\u9fff]", told[0])
    assert told[1].isascii()


@pytest.mark.parametrize("stream", [False, True])
def test_caller_who_leaves_ends_the_backends_work_and_is_booked(
    vendor: Vendor, upstream: Upstream, stream: bool
) -> None:
    upstream.answer(openai.stream("half", Gate()))
    before = {row.request_id for row in vendor.served.rows()}
    body = {"query": "q", "fileurl": PICTURE, "stream": stream, "verbose": True}
    with pytest.raises(httpx2.ReadTimeout):
        vendor.served.client.post(f"{PLUGIN}/seer/", json=body, timeout=0.4)
    upstream.wait_for_requests(1)[0].wait_closed()
    deadline = time.monotonic() + 5
    while not (new := [row.request_id for row in vendor.served.rows() if row.request_id not in before]):
        assert time.monotonic() < deadline, "it was not booked"
    row = vendor.served.row(*new)
    assert (row.outcome, row.model) == ("gone", "seer")


def test_model_without_a_way_there_is_told(vendor: Vendor) -> None:
    assert refusal(vendor.ask("dead"))[0] == 216400


@pytest.mark.parametrize(
    ("path", "name"),
    [("/%73creenshot.png", "screenshot.png"), ("/screenshot.png?authorization=bce-auth-v1", "screenshot.png")],
)
def test_picture_by_address_has_its_name_decoded(vendor: Vendor, upstream: Upstream, path: str, name: str) -> None:
    upstream.answer(openai.answer("yes"))
    meta = vendor.ask(verbose=True, fileurl=vendor.host + path).json()["meta_info"]
    assert meta["request"]["filename"] == name
    assert meta["response"]["result"]["ocr_result"] == []
    assert upstream.requests[0].pictures


def test_picture_in_the_request_has_no_name(vendor: Vendor, upstream: Upstream) -> None:
    upstream.answer(openai.answer("yes"))
    assert vendor.ask(verbose=True).json()["meta_info"]["request"]["filename"] == ""
