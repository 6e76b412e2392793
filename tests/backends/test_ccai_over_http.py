"""CCAI behind the running gateway: pictures are published, and the service fetches them before it answers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import PIL.Image
import pytest
from structlog.testing import capture_logs

from tests.api.pictures import data_url, picture, question
from tests.fakes import ccai
from tests.fakes.ccai import Answer, CcaiAccount, Cut
from tests.fakes.upstream import Upstream
from tests.support.server import Served, events_of, serving

PUBLIC_URL = "https://pictures.example.com/gw"
KEY, SECRET = "LTAI5tFakeAccessKeyId0000", "FakeAccessKeySecret0000000000"
IDS = {"workspace_id": "llm-ik1234567890RVYCKzt", "app_id": "a070a49c681f4a95a0f0123456789c35"}
ASKED = question(data_url(picture()), text="图里有什么？")


@dataclass(frozen=True)
class Site:
    """A gateway before a service that verifies what it is sent."""

    served: Served
    up: Upstream
    account: CcaiAccount

    @property
    def sent(self) -> dict[str, Any]:
        """The body of the last call that went out."""
        body: dict[str, Any] = self.up.requests[-1].json
        return body


Opener: TypeAlias = Callable[..., AbstractContextManager[Site]]


@pytest.fixture
def site(tmp_path: Path) -> Opener:
    """Opens a site.

    Args:
        answers: of the service, in order.
        section: keys of the backend's section beside, or in place of, those of the account.
        settings: of the gateway.
    """

    @contextmanager
    def opened(*answers: Answer, section: dict[str, str] | None = None, **settings: Any) -> Iterator[Site]:
        section = {"access_key_id": KEY, "access_key_secret": SECRET, **IDS, **(section or {})}
        account = CcaiAccount(
            KEY,
            SECRET,
            workspace_id=section["workspace_id"],
            app_id=section["app_id"],
            security_token=section.get("security_token"),
            fetches=True,
        )
        with Upstream().in_thread() as up:
            up.otherwise(account.serving(*answers))
            section["base_url"] = up.url + section.get("base_url", "")
            lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in section.items()]
            models = "\n".join(
                ['[backends.c]\nkind = "ccai"', *lines, "[models.m]", 'routes = [{ backend = "c", model = "app" }]']
            )
            settings = {"public_url": PUBLIC_URL, **settings}
            with serving(tmp_path, models, **settings) as served:
                account.leads[PUBLIC_URL] = served.url
                yield Site(served, up, account)

    return opened


def streamed(body: str) -> tuple[str, list[str]]:
    """The text of a stream, and its events."""
    events = events_of(body)
    values = [json.loads(event) for event in events if event != "[DONE]"]
    deltas = [value["choices"][0]["delta"] for value in values if value.get("choices")]
    return "".join(delta.get("content") or "" for delta in deltas), events


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_picture_in_the_request_reaches_a_service_that_takes_addresses(site: Opener, stream: bool) -> None:
    with site(ccai.says("图里", "有一只", "猫")) as desk:
        answer = desk.served.chat(messages=ASKED, stream=stream)
        assert answer.status_code == 200
        if stream:
            text, events = streamed(answer.text)
            assert events[-1] == "[DONE]"
        else:
            text = answer.json()["choices"][0]["message"]["content"]
        assert text == "图里有一只猫"
        row = desk.served.booked(answer)
        assert (row.input_tokens, row.output_tokens) == (1000, 6)
        assert row.backend_request_id == ccai.REQUEST_ID
        assert desk.sent["customPrompt"] == "图里有什么？"
        assert desk.sent["stream"] is stream
        (fetched,) = desk.account.fetched
        assert fetched.url == desk.sent["imageUrls"][0]
        assert fetched.url.startswith(PUBLIC_URL)
        assert (fetched.status, fetched.media_type) == (200, "image/png")
        assert PIL.Image.open(io.BytesIO(fetched.data)).size == (64, 48)


def test_all_pictures_of_a_conversation_are_fetched_in_order(site: Opener) -> None:
    first, second = picture((64, 48)), picture((80, 40), "JPEG")
    asked = [
        {"role": "system", "content": "Be brief."},
        *question(data_url(first), text="What is it?"),
        {"role": "assistant", "content": "A vase."},
        *question(data_url(second, "image/jpeg"), text="And this?"),
    ]
    with site(ccai.says("A cup.")) as desk:
        assert desk.served.chat(messages=asked).status_code == 200
        sizes = [PIL.Image.open(io.BytesIO(fetched.data)).size for fetched in desk.account.fetched]
        assert sizes == [(64, 48), (80, 40)]
        assert desk.sent["customPrompt"] == (
            "Be brief.\n\nConversation so far:\nUser: [picture] What is it?\nAssistant: A vase.\n\nQuestion: And this?"
        )


def test_a_question_without_picture_goes_with_a_blank_sheet(site: Opener) -> None:
    with site(ccai.says("Hello.")) as desk:
        answer = desk.served.chat()
        assert answer.json()["choices"][0]["message"]["content"] == "Hello."
        assert answer.headers["x-tuwen-notice"]
        assert len(desk.account.fetched) == 1
        assert desk.sent["customPrompt"] == "hi"


def test_templates_stand_in_for_the_question(site: Opener) -> None:
    with site(ccai.says("发票")) as desk:
        assert desk.served.chat(messages=ASKED, template_ids=[34]).status_code == 200
        assert desk.sent["templateIds"] == [34]
        assert "customPrompt" not in desk.sent
        refused = desk.served.chat(messages=ASKED, template_ids=["34"])
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "template_ids"
        assert len(desk.up.requests) == 1


def test_what_has_no_field_is_dropped_with_a_notice(site: Opener) -> None:
    with site(ccai.says("猫")) as desk:
        answer = desk.served.chat(messages=ASKED, max_tokens=9, temperature=0.2)
        assert answer.status_code == 200
        notice = answer.headers["x-tuwen-notice"]
        assert "max_tokens dropped" in notice
        assert "temperature dropped" in notice
        assert desk.sent.keys() == {"customPrompt", "imageUrls", "stream"}


@pytest.mark.parametrize(
    "section",
    [
        {"base_url": "/gw/a%20b!%2A"},
        {"workspace_id": "a b/c+*~中", "app_id": "x y"},
        {"access_key_id": KEY, "security_token": "FakeStsToken/000=="},
    ],
    ids=["a path before the service's own", "odd ids", "temporary credentials"],
)
def test_what_arrives_is_what_was_signed(site: Opener, section: dict[str, str]) -> None:
    with site(ccai.says("猫"), section=section) as desk:
        answer = desk.served.chat(messages=ASKED)
        assert answer.status_code == 200, desk.up.requests
        assert desk.up.requests[0].headers["host"] == desk.up.url.removeprefix("http://")


def test_throttling_with_status_400_is_told_as_429(site: Opener) -> None:
    with site(ccai.error("CCAI.Throttling.Qpm", retry_after_ms=2500)) as desk:
        answer = desk.served.chat(messages=ASKED, stream=True)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
        assert answer.json()["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("CCAI.ParamNotfound.MissParam", 400),
        ("CCAI.InvalidParam.NotExist", 400),
        ("CCAI.TenantPermission.NoAuth", 502),
        ("InvalidAccessKeyId.NotFound", 502),
        ("CCAI.InternalError", 503),
    ],
)
def test_codes_decide_and_not_the_vendors_statuses(site: Opener, code: str, status: int) -> None:
    with site(ccai.error(code, "what the vendor says")) as desk:
        answer = desk.served.chat(messages=ASKED)
        assert answer.status_code == status
        assert "vendor says" not in answer.text


def test_what_was_signed_comes_back_to_nobody(site: Opener) -> None:
    with capture_logs() as logs, site(section={"access_key_secret": "another"}) as desk:
        answer = desk.served.chat(messages=ASKED)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "backend_misconfigured")
        (fault,) = [entry for entry in logs if entry["event"] == "backend fault"]
        assert fault["backend_code"] == "SignatureDoesNotMatch"
        for said in (answer.text, json.dumps(logs, default=str)):
            assert "ACS3" not in said
            assert desk.up.requests[0].headers["x-acs-signature-nonce"] not in said


def test_an_answer_that_breaks_off_never_looks_whole(site: Opener) -> None:
    with site(ccai.says("图里", "有", Cut(), "猫")) as desk:
        answer = desk.served.chat(messages=ASKED, stream=True)
        text, events = streamed(answer.text)
        assert text == "图里有"
        assert "error" in json.loads(events[-1])


def test_a_long_answer_is_carried_though_every_event_repeats_it(site: Opener) -> None:
    words = ["长" * 200] * 100  # 20 000 characters: 60 kB at last, and 3 MB in all
    with site(ccai.says(*words), max_upstream_body_bytes=2**20) as desk:
        answer = desk.served.chat(messages=ASKED, stream=True)
        text, events = streamed(answer.text)
        assert (len(text), events[-1]) == (20_000, "[DONE]")


def test_without_a_place_to_publish_the_operator_is_told_what_to_set(site: Opener) -> None:
    with site(ccai.says("猫"), public_url=None) as desk:
        answer = desk.served.chat(messages=ASKED)
        assert answer.status_code == 400
        assert "TUWEN_PUBLIC_URL" in answer.json()["error"]["message"]
        assert not desk.up.requests
