"""Bodies that cannot be meant: each names its field, and reaches nobody."""

from __future__ import annotations

import pytest

from tests.api.malformed import refusal
from tests.fakes.upstream import Upstream
from tests.support.server import Served

GOOD = b'{"model":"m","messages":[{"role":"user","content":"x"}]'
BODIES: dict[str, tuple[bytes, str | None]] = {
    # what: the body, and the param
    "byte-order mark": (b"\xef\xbb\xbf" + GOOD + b"}", None),
    "UTF-16": ((GOOD + b"}").decode().encode("utf-16"), None),
    "UTF-32": ((GOOD + b"}").decode().encode("utf-32"), None),
    "null bytes behind": (GOOD + b"}\x00", None),
    "two documents": (GOOD + b"}" + GOOD + b"}", "model"),
    "a comma too many": (GOOD + b",}", None),
    "a comment": (GOOD + b"/* x */}", None),
    "overlong UTF-8": (GOOD + b',"x":"\xc0\xaf"}', None),
    "surrogate in UTF-8": (GOOD + b',"x":"\xed\xa0\x80"}', None),
    "surrogate in text": (b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}', None),
    "surrogate in a key": (GOOD + b',"\\ud800":1}', None),
    "control character": (b'{"model":"m","messages":[{"role":"user","content":"a\nb"}]}', None),
    "NaN": (GOOD + b',"temperature":NaN}', None),
    "1e999": (GOOD + b',"temperature":1e999}', "temperature"),
    "huge integer": (GOOD + b',"seed":' + b"9" * 400 + b"}", "seed"),
    "1e999 in a field outside OpenAI's": (GOOD + b',"zz":1e999}', "zz"),
    "an integer of thousands of digits": (GOOD + b',"seed":' + b"9" * 5000 + b"}", "seed"),
    "a fraction of thousands of digits": (GOOD + b',"temperature":1.' + b"9" * 5000 + b"}", "temperature"),
    "a number of thousands of digits within": (
        GOOD + b',"tools":[{"type":"function","function":{"name":"f","parameters":{"x":[1,' + b"9" * 401 + b"]}}}]}",
        "tools",
    ),
    "a number of thousands of digits that is all": (b"9" * 5000, None),
    "boolean for a number": (GOOD + b',"temperature":true}', "temperature"),
    "text for a number": (GOOD + b',"max_tokens":"9"}', "max_tokens"),
    "number for a boolean": (GOOD + b',"stream":1}', "stream"),
    "list for an object": (GOOD + b',"stream_options":[]}', "stream_options"),
    "stream_options oddity": (
        GOOD + b',"stream":true,"stream_options":{"include_usage":"yes"}}',
        "stream_options.include_usage",
    ),
    "empty model": (b'{"model":"","messages":[{"role":"user","content":"x"}]}', "model"),
    "blank model": (b'{"model":"  ","messages":[{"role":"user","content":"x"}]}', "model"),
    "null model": (b'{"model":null,"messages":[{"role":"user","content":"x"}]}', "model"),
    "no model": (b'{"messages":[{"role":"user","content":"x"}]}', "model"),
    "no messages": (b'{"model":"m"}', "messages"),
    "empty messages": (b'{"model":"m","messages":[]}', "messages"),
    "too many messages": (
        b'{"model":"m","messages":[' + b",".join([b'{"role":"user","content":"x"}'] * 3000) + b"]}",
        "messages",
    ),
    "message that is text": (b'{"model":"m","messages":["x"]}', "messages[0]"),
    "wrong role": (b'{"model":"m","messages":[{"role":"root","content":"x"}]}', "messages[0].role"),
    "role in capitals": (b'{"model":"m","messages":[{"role":"User","content":"x"}]}', "messages[0].role"),
    "no role": (b'{"model":"m","messages":[{"content":"x"}]}', "messages[0].role"),
    "no content": (b'{"model":"m","messages":[{"role":"user"}]}', "messages[0].content"),
    "content that is a number": (b'{"model":"m","messages":[{"role":"user","content":1}]}', "messages[0].content"),
    "content that is an object": (b'{"model":"m","messages":[{"role":"user","content":{}}]}', "messages[0].content"),
    "part without type": (
        b'{"model":"m","messages":[{"role":"user","content":[{"text":"x"}]}]}',
        "messages[0].content[0].type",
    ),
    "part that is null": (b'{"model":"m","messages":[{"role":"user","content":[null]}]}', "messages[0].content[0]"),
    "tool message without id": (
        b'{"model":"m","messages":[{"role":"tool","content":"x"}]}',
        "messages[0].tool_call_id",
    ),
    "tool call without id": (
        b'{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":""}}]}]}',
        "messages[0].tool_calls[0].id",
    ),
    "arguments that are an object": (
        b'{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":{}}}]}]}',
        "messages[0].tool_calls[0].function.arguments",
    ),
    "deep in a part": (b'{"model":"m","messages":[{"role":"user","content":' + b"[" * 100 + b"]" * 100 + b"}]}", None),
    "a key twice deep inside": (
        b'{"model":"m","messages":[{"role":"user","content":"x","role":"system"}]}',
        "messages[0].role",
    ),
    "a key twice in a tool": (
        GOOD + b',"tools":[{"type":"function","function":{"name":"f","name":"g"}}]}',
        "tools[0].function.name",
    ),
}


@pytest.mark.parametrize("what", BODIES)
def test_what_cannot_be_meant_names_its_field(served: Served, upstream: Upstream, what: str) -> None:
    body, param = BODIES[what]
    error = refusal(served.post(body, **served.headers))
    assert error["param"] == param
    assert not upstream.requests
