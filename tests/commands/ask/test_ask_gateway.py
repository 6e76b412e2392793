"""`tuwen ask` through a gateway."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import httpx2
import pytest

from app.commands.ask_gateway import GatewayAsker
from app.commands.ask_question import AskFailed, Question
from tests.commands.ask.lab import KEY, Ended, Lab, ScriptedGateway, answer_about
from tests.fakes import openai
from tests.fakes.http import Cut, Gate, Reply
from tests.fakes.upstream import Upstream


def assert_failed(ended: Ended, code: int, *words: str) -> None:
    """One line beside the remark on who was asked."""
    remarks = [line for line in ended.err.splitlines() if not line.startswith("Asking")]
    assert (ended.code, len(remarks)) == (code, 1), ended.err
    assert all(word in remarks[0] for word in words), remarks[0]
    assert KEY not in ended.err


def test_question_and_picture_reach_the_gateway(lab: Lab, gateway: ScriptedGateway) -> None:
    picture = lab.picture("cat.png")
    ended = lab.ask("cat.png", "-q", "猫在哪里？", "-m", "some-vision", "-t", "0.3", "--max-tokens", "50")
    assert (ended.code, ended.out) == (0, answer_about(picture) + "\n")
    (question,) = gateway.questions
    assert question.path == "/v1/chat/completions"
    assert question.pictures == [picture]
    asked = question.json
    assert (asked["model"], asked["temperature"], asked["max_tokens"]) == ("some-vision", 0.3, 50)
    assert asked["messages"][0]["content"][1] == {"type": "text", "text": "猫在哪里？"}


def test_remarks_say_who_was_asked_and_what_it_took(lab: Lab, gateway: ScriptedGateway) -> None:
    lab.picture("cat.png")
    ended = lab.ask("cat.png")
    assert f"Asking the gateway at {gateway.url}/v1." in ended.err
    assert "120 tokens in, 8 out, " in ended.err


def test_answer_is_shown_as_it_comes(lab: Lab, gateway: ScriptedGateway) -> None:
    lab.picture("cat.png")
    gate = Gate()
    gateway.answer(openai.stream("一只", gate, "猫"))
    with lab.start("ask", "cat.png") as process:
        assert process.stdout is not None
        assert process.stdout.read(len("一只".encode())).decode() == "一只"  # blocks for ever if it were held back
        gate.open()
        assert process.stdout.read().decode() == "猫\n"


def test_json_is_one_object_and_asks_for_the_answer_whole(lab: Lab, gateway: ScriptedGateway) -> None:
    picture = lab.picture("cat.png")
    (record,) = lab.ask("cat.png", "--json", "-q", "what?").records
    assert gateway.questions[0].json["stream"] is False
    assert record["picture"] == "cat.png"
    assert (record["question"], record["model"]) == ("what?", "local-ocr-vision")
    assert record["answer"] == answer_about(picture)
    assert (record["usage"]["input_tokens"], record["usage"]["output_tokens"]) == (120, 8)
    assert record["cost_yuan"] is None  # a gateway does not tell
    assert record["seconds"] >= 0


def test_pictures_together_travel_in_one_request(lab: Lab, gateway: ScriptedGateway) -> None:
    pictures = [lab.picture("album/a.png"), lab.picture("album/b.png")]
    ended = lab.ask("album", "--together", "--json")
    assert ended.records[0]["pictures"] == ["album/a.png", "album/b.png"]
    assert [question.pictures for question in gateway.questions] == [pictures]


def test_picture_may_come_through_stdin(lab: Lab, gateway: ScriptedGateway) -> None:
    picture = lab.picture("cat.png")
    assert lab.ask("-", stdin=picture).out == answer_about(picture) + "\n"


def test_picture_named_by_url_is_left_to_the_gateway(lab: Lab, gateway: ScriptedGateway) -> None:
    gateway.answer(openai.stream("far away"))
    assert lab.ask("http://pictures.example/cat.png").code == 0
    content = gateway.questions[0].json["messages"][0]["content"]
    assert content[0] == {"type": "image_url", "image_url": {"url": "http://pictures.example/cat.png"}}


def test_options_win_over_the_environment(lab: Lab, gateway: ScriptedGateway) -> None:
    lab.picture("cat.png")
    lab.environment |= {"TUWEN_BASE_URL": "http://127.0.0.1:1", "TUWEN_API_KEY": "wrong"}
    assert lab.ask("cat.png", "--base-url", f"{gateway.url}/v1/", "--key", KEY).code == 0


def test_dotenv_may_hold_address_and_key(lab: Lab, gateway: ScriptedGateway) -> None:
    lab.picture("cat.png")
    del lab.environment["TUWEN_BASE_URL"], lab.environment["TUWEN_API_KEY"]
    (lab.folder / ".env").write_text(f"TUWEN_BASE_URL={gateway.url}\nTUWEN_API_KEY={KEY}\n")
    assert lab.ask("cat.png").code == 0


def test_missing_key_gets_one_line_on_how_to_give_it(lab: Lab, gateway: ScriptedGateway) -> None:
    lab.picture("cat.png")
    del lab.environment["TUWEN_API_KEY"]
    assert_failed(lab.ask("cat.png"), 2, "TUWEN_API_KEY", "--key")
    assert gateway.questions == []


@pytest.mark.parametrize("key", ["sk-tw-other", "schlüssel"])
def test_wrong_key_is_told_before_any_picture_is_sent(lab: Lab, gateway: ScriptedGateway, key: str) -> None:
    lab.picture("cat.png")
    assert_failed(lab.ask("cat.png", "--key", key), 2, "key")
    assert gateway.questions == []


@pytest.mark.parametrize(
    ("reply", "code", "word"),
    [
        (openai.error(404, code="model_not_found", message="The model `x` does not exist here."), 2, "does not exist"),
        (openai.error(503, code="backend_unavailable", message="It is\n  asleep."), 1, "It is asleep."),
        (Reply(502, {"content-type": "text/html"}, [b"<html>"]), 1, "HTTP 502"),
        (Reply(200, {}, [Cut()], "raw"), 1, "broke"),
        (Reply(200, openai.SSE, [b"data: " + b"x" * 5_000_000]), 1, "bounds"),
        (Reply(200, openai.SSE, [openai.DONE]), 1, "broke off"),
        (Reply(200, openai.SSE, [openai.event([1]), openai.event({"error": {"message": "Gone."}})]), 1, "Gone."),
    ],
    ids=["unknown model", "refused", "not JSON", "cut", "oversized", "empty", "in-band error"],
)  # fmt: skip
def test_fault_is_one_line(lab: Lab, gateway: ScriptedGateway, reply: Reply, code: int, word: str) -> None:
    lab.picture("cat.png")
    gateway.answer(reply)
    assert_failed(lab.ask("cat.png"), code, word)


def test_picture_at_fault_is_called_by_its_name(lab: Lab, gateway: ScriptedGateway) -> None:
    lab.picture("cat.png")
    lab.picture("dog.png")
    place = "messages[0].content[{}].image_url.url"
    gateway.answer(openai.error(400, message=f"The picture in {place.format(1)} is cut short."))
    assert_failed(lab.ask("cat.png", "dog.png", "--together"), 1, "dog.png is cut short.")
    gateway.answer(openai.error(400, message=f"`{place.format(0)}` and {place.format(7)} are wrong."))
    assert_failed(lab.ask("cat.png"), 1, f"`cat.png` and {place.format(7)} are wrong.")


def test_answer_that_breaks_off_is_shown_and_called_a_failure(lab: Lab, gateway: ScriptedGateway) -> None:
    lab.picture("cat.png")
    begun = openai.stream("half an ans").steps[:2]
    gateway.answer(Reply(200, openai.SSE, [*begun, openai.event({"error": {"message": "It broke."}})]))
    ended = lab.ask("cat.png")
    assert_failed(ended, 1, "It broke.")
    assert ended.out == "half an ans\n"


def test_cut_answer_and_notices_are_remarked_on(lab: Lab, gateway: ScriptedGateway) -> None:
    lab.picture("cat.png")
    cut = openai.stream("so far", finish_reason="length")
    gateway.answer(Reply(200, {**cut.headers, "x-tuwen-notice": "seed dropped; tools dropped"}, cut.steps))
    ended = lab.ask("cat.png")
    assert ended.code == 0
    assert "--max-tokens" in ended.err
    assert "Notice: seed dropped\nNotice: tools dropped\n" in ended.err


@pytest.mark.parametrize(
    "reply",
    [openai.reply({"error": "no"}, 404), openai.reply([]), Reply(200, {"content-type": "text/html"}, [b"<html>hi"])],
)
def test_something_else_at_the_address_is_told_apart_from_a_gateway(
    lab: Lab, gateway: ScriptedGateway, reply: Reply
) -> None:
    lab.picture("cat.png")
    gateway.models = reply
    assert_failed(lab.ask("cat.png"), 2, "is no gateway", "--base-url")


@pytest.mark.parametrize("url", ["gateway:8000", "ftp://gateway/", "http://", "http://here:red", "http://here:99999"])
def test_base_url_that_is_none_is_refused(lab: Lab, url: str) -> None:
    lab.picture("cat.png")
    assert_failed(lab.ask("cat.png", "--base-url", url), 2, "base URL")


def test_gateway_that_hangs_up_at_once_is_one_line(lab: Lab) -> None:
    lab.picture("cat.png")
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_hang_up, args=(server,), daemon=True).start()
        ended = lab.ask("cat.png", "--base-url", f"https://127.0.0.1:{server.getsockname()[1]}")
    assert_failed(ended, 1, "cannot be reached")


@pytest.mark.parametrize("status", [200, 404])
def test_credentials_in_the_base_url_are_not_printed(lab: Lab, status: int) -> None:
    """They go out as HTTP Basic in place of a key, as a proxy before the gateway may want them."""
    lab.picture("cat.png")
    with Upstream().in_thread() as upstream:
        ScriptedGateway(upstream).models = openai.reply({"object": "list", "data": []}, status)
        ended = lab.ask("cat.png", "--base-url", upstream.url.replace("://", "://u:hush%2F@"))
    assert upstream.url in ended.err
    assert "hush" not in ended.err


def _hang_up(server: socket.socket) -> None:
    with suppress(OSError):  # the test closes the server
        while True:
            server.accept()[0].close()


async def test_gateway_that_falls_silent_is_not_waited_for_without_end(lab: Lab) -> None:
    async with Upstream() as upstream, httpx2.AsyncClient(timeout=0.1) as client:
        upstream.otherwise(Reply(200, openai.SSE, [Gate()]))
        with pytest.raises(AskFailed, match="in time"):
            await GatewayAsker(client, upstream.url).ask(Question("?", "some-vision"), [], print)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("nothing.png",), "nothing.png"),
        (("empty",), "no picture"),
        (("-", "-"), "once"),
        (("cat.png", "--raw", "--json"), "--raw"),
        (("cat.png", "dog.png", "--raw"), "--together"),
        (("cat.png", "dog.png", "--together", "--out", "x.jsonl"), "--out"),
        (("cat.png", "-t", "9"), "-t"),
    ],
)
def test_mistyped_command_is_told_before_anything_is_asked(
    lab: Lab, gateway: ScriptedGateway, arguments: tuple[str, ...], word: str
) -> None:
    lab.picture("cat.png")
    lab.picture("dog.png")
    (lab.folder / "empty").mkdir()
    assert_failed(lab.ask(*arguments), 2, word)
    assert gateway.questions == []


def test_wrong_setting_is_told_with_exit_code_2(lab: Lab) -> None:
    lab.picture("cat.png")
    lab.environment["TUWEN_PORT"] = "red"
    assert_failed(lab.ask("cat.png"), 2, "TUWEN_PORT")
