"""An S3-compatible store on 127.0.0.1 that checks every signature itself (AWS Signature Version 4).

It recomputes each signature from what arrived, as the real one would: PUT and DELETE signed in headers, GET in the
query. A virtual host reaches it as a proxy's client would, by absolute request lines, so that no name is looked up.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from typing_extensions import override

_SKEW_S = 15 * 60
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object, as it was put."""

    data: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Refusal(Exception):
    """What the store answers in place of an object."""

    status: int
    code: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it arrived. Header names are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class S3:
    """The store, with one bucket and one key.

    Args:
        clock: Unix time in seconds.
        virtual_host: its domain, where the bucket stands in the host; `None`: it stands in the path.
        objects: what lies in the bucket, by key.
        requests: what arrived, in order.
        silent: while set, nothing is answered.
    """

    bucket: str = "pictures"
    region: str = "bj"
    access_key_id: str = "AKFAKE"
    secret_access_key: str = "sekrit/fake+key"
    clock: Callable[[], float] = time.time
    virtual_host: str | None = None
    objects: dict[str, StoredObject] = field(default_factory=dict)
    requests: list[Asked] = field(default_factory=list)
    silent: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://{self.virtual_host}" if self.virtual_host else self.proxy

    @property
    def proxy(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def in_thread(self) -> Iterator[S3]:
        """Serves until the block ends."""
        store = self

        class Handler(_Handler):
            s3 = store

        with ThreadingHTTPServer(("127.0.0.1", self.port), Handler) as server:
            server.daemon_threads = True
            self.port = server.server_port
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="s3")
            thread.start()
            try:
                yield self
            finally:
                self.ended.set()
                server.shutdown()
                thread.join(5)

    def answer(self, asked: Asked) -> StoredObject:
        """What is answered to one request.

        Raises:
            Refusal: it is not signed as it must be, or there is no such object.
        """
        self.requests.append(asked)
        if "X-Amz-Signature" in asked.query:
            self._check_presigned(asked)
        else:
            self._check_signed(asked)
        key = self._key(asked)
        match asked.method:
            case "PUT":
                self.objects[key] = StoredObject(asked.body, asked.headers)
            case "DELETE":
                self.objects.pop(key, None)
            case _ if key in self.objects:
                return self.objects[key]
            case _:
                raise Refusal(404, "NoSuchKey")
        return StoredObject(b"", {})

    def _key(self, asked: Asked) -> str:
        path = unquote(asked.path).removeprefix("/")
        if self.virtual_host:
            bucket, _, domain = asked.headers["host"].partition(".")
            key = path
        else:
            bucket, _, key = path.partition("/")
            domain = None
        if bucket != self.bucket or domain != self.virtual_host:
            raise Refusal(404, "NoSuchBucket")
        return key

    def _check_signed(self, asked: Asked) -> None:
        match = _AUTHORIZATION.fullmatch(asked.headers.get("authorization", ""))
        if match is None:
            raise Refusal(403, "AccessDenied")
        credential, names, signature = match.groups()
        stamp = asked.headers["x-amz-date"]
        if abs(_unix(stamp) - self.clock()) > _SKEW_S:
            raise Refusal(403, "RequestTimeTooSkewed")
        payload = asked.headers["x-amz-content-sha256"]
        if payload not in {hashlib.sha256(asked.body).hexdigest(), "UNSIGNED-PAYLOAD"}:
            raise Refusal(400, "XAmzContentSHA256Mismatch")
        unsigned = {name for name in asked.headers if name.startswith("x-amz-")} - set(names.split(";"))
        if unsigned or "host" not in names.split(";"):
            raise Refusal(403, "AccessDenied")
        self._check(asked, credential, (stamp, names, payload), signature)

    def _check_presigned(self, asked: Asked) -> None:
        query = dict(parse_qsl(asked.query, keep_blank_values=True))
        if query.get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256":
            raise Refusal(400, "AuthorizationQueryParametersError")
        stamp, expires_s = query["X-Amz-Date"], int(query["X-Amz-Expires"])
        if not _unix(stamp) - _SKEW_S <= self.clock() < _unix(stamp) + expires_s:
            raise Refusal(403, "AccessDenied")
        signature = query["X-Amz-Signature"]
        names = query["X-Amz-SignedHeaders"]
        self._check(asked, query["X-Amz-Credential"], (stamp, names, "UNSIGNED-PAYLOAD"), signature)

    def _check(self, asked: Asked, credential: str, signed: tuple[str, str, str], signature: str) -> None:
        stamp, names, payload = signed
        key_id, _, scope = credential.partition("/")
        if key_id != self.access_key_id:
            raise Refusal(403, "InvalidAccessKeyId")
        if scope != f"{stamp[:8]}/{self.region}/s3/aws4_request":
            raise Refusal(400, "AuthorizationHeaderMalformed")
        pairs = parse_qsl(asked.query, keep_blank_values=True)
        query = sorted((quote(k, safe="~"), quote(v, safe="~")) for k, v in pairs if k != "X-Amz-Signature")
        canonical = [
            asked.method,
            quote(unquote(asked.path), safe="/~"),
            "&".join(f"{name}={value}" for name, value in query),
            *(f"{name}:{' '.join(asked.headers.get(name, '').split())}" for name in names.split(";")),
            "",
            names,
            payload,
        ]
        digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
        secret = f"AWS4{self.secret_access_key}".encode()
        for step in scope.split("/"):
            secret = hmac.digest(secret, step.encode(), "sha256")
        if not hmac.compare_digest(hmac.digest(secret, to_sign.encode(), "sha256").hex(), signature):
            raise Refusal(403, "SignatureDoesNotMatch")


class _Handler(BaseHTTPRequestHandler):
    s3: S3
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        target = urlsplit(self.path)
        if self.s3.silent.is_set():
            self.close_connection = True
            self.s3.ended.wait(10)
            return
        try:
            found = self.s3.answer(Asked(self.command, target.path, target.query, headers, body))
        except Refusal as refusal:
            error = f"<?xml version='1.0'?><Error><Code>{refusal.code}</Code><Message>no</Message></Error>"
            self._send(refusal.status, error.encode(), "application/xml")
        else:
            self._send(200, found.data, found.headers.get("content-type", "application/xml"))

    do_GET = do_PUT = do_DELETE = do_POST = _serve  # noqa: N815 - names the base class looks for

    def _send(self, status: int, data: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(data)))
        self.send_header("etag", '"fake"')
        self.end_headers()
        self.wfile.write(data)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        pass


def _unix(stamp: str) -> float:
    return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
