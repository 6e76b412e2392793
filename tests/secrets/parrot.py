"""A backend that repeats whatever it is told: credentials, question and pictures, in errors of every shape.

What it repeats comes first in the parrot's speech by turns, for what we keep of it is cut short: the query of the
address, the headers, the body, the credentials it knows in other forms.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable, Sequence
from urllib.parse import parse_qsl, quote

from tests.fakes import spark
from tests.fakes.http import Received, Reply
from tests.fakes.websocket import WsReply

Voice = Callable[[str], Reply]
_TOKEN_PATH = "/oauth/2.0/token"
_HEADER_CHARS = 2000


def _json_error(status: int, **headers: str) -> Voice:
    return lambda said: Reply(
        status,
        {"content-type": "application/json", **headers},
        [json.dumps({"error": {"message": said, "type": said[:200], "code": "scripted"}}, ensure_ascii=False).encode()],
    )


def _flat_error(status: int) -> Voice:
    """As Baidu and Alibaba write them."""
    body = {"error_code": 336003, "code": "InvalidParameter"}
    return lambda said: Reply(
        status,
        {"content-type": "application/json"},
        [json.dumps({**body, "error_msg": said, "message": said, "requestId": "r"}).encode()],
    )


def _one_line(said: str) -> str:
    return quote(said[:_HEADER_CHARS], safe=" /+=:?&\"'{}[],")


def _raw(said: str) -> Reply:
    return Reply(200, {}, [f"HTTP/1.1 200 OK\r\n{_one_line(said)} : no header\r\n\r\n".encode()], "raw")


def _status_line(said: str) -> Reply:
    return Reply(200, {}, [f"HTTP/9.9 nonsense {_one_line(said)}\r\n\r\n".encode()], "raw")


def _events(said: str) -> Reply:
    error = json.dumps({"error": {"message": said, "code": "server_error"}, "error_code": 336000, "error_msg": said})
    return Reply(200, {"content-type": "text/event-stream"}, [f"data: {error}\n\n".encode()])


def _good(said: str) -> Reply:
    """An answer, with what is said for its id."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
    body = {"id": said, "log_id": said, "requestId": said, "object": "chat.completion", "choices": [choice]}
    return Reply(200, {"content-type": "application/json"}, [json.dumps(body).encode()])


VOICES: Sequence[Voice] = (
    _json_error(400),
    _json_error(401),
    _json_error(429, **{"retry-after": "0"}),
    _flat_error(403),
    _flat_error(200),
    lambda said: Reply(500, {"content-type": "text/html"}, [f"<html><b>{html.escape(said)}</b></html>".encode()]),
    lambda said: Reply(503, {"content-type": "text/plain", "x-said": _one_line(said)}, [said.encode()]),
    lambda said: Reply(302, {"location": f"http://127.0.0.1:9/?{_one_line(said)}"}, []),
    lambda said: Reply(400, {"x-bce-error-message": _one_line(said), "x-bce-error-code": "AccessDenied"}, [b"{}"]),
    lambda said: Reply(200, {"content-type": "application/json"}, [b'{"id": ' + json.dumps(said).encode()]),
    _events,
    _raw,
    _status_line,
    _good,
)


class Parrot:
    """Answers as the voice that is set, and begins with another part of what it heard each time.

    Args:
        known: what it repeats in other forms to whoever presents it.
        token: the access token it gives out where it is asked for one.
    """

    def __init__(self, known: Sequence[Sequence[str]], token: str) -> None:
        self.voice: Voice = VOICES[0]
        self.begins = 0
        self.gives_tokens = True
        self._known = known
        self._token = token

    def __call__(self, request: Received) -> Reply | WsReply:
        if request.path == _TOKEN_PATH and self.gives_tokens:
            return Reply(200, {}, [json.dumps({"access_token": self._token, "expires_in": 2592000}).encode()])
        if request.wants_websocket and self.begins % 2:
            return WsReply(lambda received: spark.error(10013, self._speech(received)))
        return self.voice(self._speech(request))

    def _speech(self, request: Received) -> str:
        body = (b"".join(request.messages) or request.body).decode("utf-8", "replace")
        query = f"{request.path}?{request.query} {parse_qsl(request.query)}"
        parts = [
            query,
            json.dumps(dict(request.headers)),
            self._texts(body),
            body[:3000],
            self._other_forms(query + str(dict(request.headers))),
        ]
        first = self.begins % len(parts)
        return " ".join([*parts[first:], *parts[:first]])

    @staticmethod
    def _texts(body: str) -> str:
        """The question, from where it begins."""
        return body[body.find("canary-prompt") :][:400]

    def _other_forms(self, heard: str) -> str:
        """Of the secrets of whoever asks, who is known by one of them."""
        owned = next((group for group in self._known if any(secret in heard for secret in group)), ())
        forms = (f"{quote(s, safe='')} {base64.b64encode(s.encode()).decode()} {s.encode().hex()}" for s in owned)
        return " ".join(forms)
