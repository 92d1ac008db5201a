"""Access control: hosts, origins, passwords, request sizes and security headers."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cinesynth.web.settings import ServeSettings
from cinesynth.web.store import TOKEN, token

COOKIE = "cinesynth_session"
SMALL_BODY = 64 * 1024
"""Largest request body in bytes; only uploads may be larger."""
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self' blob: data:",
        "worker-src 'self' blob:",
        "frame-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'self'"
"""For report pages, which may hold text from elsewhere: no scripts, no requests."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware that rejects requests this server must not answer."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject the request, or pass it on with its session."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        refusal = self._password(request) or self._origin(request) or self._size(request)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send, []))
            return
        given = request.cookies.get(COOKIE, "")
        fresh = [] if TOKEN.fullmatch(given) else [token()]
        scope.setdefault("state", {})["session"] = fresh[0] if fresh else given
        limit = None if request.url.path == "/api/uploads" else SMALL_BODY
        await self.app(scope, _counted(receive, limit), _with_headers(send, fresh))

    def _password(self, request: Request) -> Response | None:
        wanted = self.settings.password
        if wanted is None:
            return None
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(text, validate=True).decode("utf-8").partition(":")[2] if kind == "Basic" else ""
        except (binascii.Error, UnicodeDecodeError):
            given = ""
        if secrets.compare_digest(given.encode(), wanted.encode()):
            return None
        answer = refused(401, "a password is required", "enter any user name and the password of the server")
        answer.headers["WWW-Authenticate"] = 'Basic realm="cinesynth", charset="UTF-8"'
        return answer

    def _origin(self, request: Request) -> Response | None:
        """Other sites may link here but not send requests."""
        site = request.headers.get("sec-fetch-site", "none")
        origin = request.headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
        navigates = request.method == "GET" and request.headers.get("sec-fetch-mode") == "navigate"
        if foreign or (site not in ("same-origin", "none") and not navigates):
            return refused(403, "request from another site", "use the page of this server")
        return None

    def _size(self, request: Request) -> Response | None:
        limit = self.settings.upload_mib * 2**20 if request.url.path == "/api/uploads" else SMALL_BODY
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > limit:
            return refused(413, f"the request is larger than {limit // 1024} KiB", "send a smaller one")
        return None


def refused(status: int, message: str, hint: str = "") -> Response:
    """An error response with a message and a hint."""
    return JSONResponse({"message": message, "hint": hint}, status)


def _counted(receive: Receive, limit: int | None) -> Receive:
    """Disconnect a client that sends more than ``limit`` bytes without declaring a length."""
    if limit is None:
        return receive
    seen = 0

    async def counted() -> Any:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            return {"type": "http.disconnect"}
        return message

    return counted


def _with_headers(send: Send, fresh: Iterable[str]) -> Callable[[Any], Awaitable[None]]:
    cookies = [f"{COOKIE}={name}; Path=/; HttpOnly; SameSite=Strict" for name in fresh]

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", []))
            present = {name.lower() for name, _ in headers}
            own = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
            headers += [(k, v) for k, v in own if k not in present]
            headers += [(b"set-cookie", cookie.encode()) for cookie in cookies]
            message = {**message, "headers": headers}
        await send(message)

    return sending
