"""The settings of a server and its access control: hosts, origins, passwords, request sizes, security headers."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cinesynth.errors import InputError
from cinesynth.types import Precision
from cinesynth.web.store import TOKEN, token

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServeSettings:
    """Settings of one server; `InputError` if it would be open to other machines without a password."""

    host: str = "127.0.0.1"
    port: int = 7860
    weights: Path | None = None
    password: str | None = None
    no_auth: bool = False
    reports: Path | None = None
    """Output folder of `cinesynth evaluate`, or a folder of several."""
    upload_mib: int = 512
    store_mib: int = 4096
    """Limit for the results of all sessions together; the oldest are deleted first."""
    keep_minutes: int = 240
    waiting: int = 4
    """Jobs of one session that may wait or run; ``waiting_all`` limits those of all sessions."""
    waiting_all: int = 32
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise InputError(f"port {self.port} is outside 0-65535", hint="the default is 7860; 0 takes a free port")
        if not self.is_local and self.password is None and not self.no_auth:
            hint = "pass --password-file, or --no-auth to allow everyone"
            raise InputError(f"{self.host} can be reached from other machines, but no password is set", hint=hint)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def in_url(host: str) -> str:
    """A host as it stands in a URL: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def read_password(path: Path) -> str:
    """The first line of a file that only its owner can read; `InputError` if it is missing or too short."""
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        hint = "pass a file with the password on its first line"
        raise InputError(f"{path} cannot be read: {error}", hint=hint) from None
    if mode & 0o077:
        raise InputError(f"{path} is readable by other users", hint=f"chmod 600 {path}")
    password = text.splitlines()[0].strip() if text.strip() else ""
    if len(password) < 8:
        raise InputError(f"the password in {path} is shorter than 8 characters", hint="choose a longer one")
    return password


# --- Access control --------------------------------------------------------------------------------------------------

COOKIE = "cinesynth_session"
SMALL_BODY = 64 * 1024
"""Largest request body in bytes; only uploads may be larger."""
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self' blob: data:; worker-src 'self' blob:; frame-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
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
        limit = self.settings.upload_mib * 2**20 if request.url.path == "/api/uploads" else SMALL_BODY
        refusal = self._password(request) or _origin(request) or _size(request, limit)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send, []))
            return
        given = request.cookies.get(COOKIE, "")
        fresh = [] if TOKEN.fullmatch(given) else [token()]
        scope.setdefault("state", {})["session"] = fresh[0] if fresh else given
        if request.url.path != "/api/uploads":  # an upload is counted while it is written
            receive = _counted(receive, limit)
        await self.app(scope, receive, _with_headers(send, fresh))

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


def _origin(request: Request) -> Response | None:
    """Other sites may link here but not send requests."""
    site = request.headers.get("sec-fetch-site", "none")
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    navigates = request.method == "GET" and request.headers.get("sec-fetch-mode") == "navigate"
    if foreign or (site not in ("same-origin", "none") and not navigates):
        return refused(403, "request from another site", "use the page of this server")
    return None


def _size(request: Request, limit: int) -> Response | None:
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > limit:
        return refused(413, f"the request is larger than {limit // 1024} KiB", "send a smaller one")
    return None


def refused(status: int, message: str, hint: str = "") -> Response:
    """An error response with a message and a hint."""
    return JSONResponse({"message": message, "hint": hint}, status)


def _counted(receive: Receive, limit: int) -> Receive:
    """Disconnect a client that sends more than ``limit`` bytes without declaring a length."""
    seen = 0

    async def counted() -> Any:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > limit else message

    return counted


def _with_headers(send: Send, fresh: Sequence[str]) -> Callable[[Any], Awaitable[None]]:
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
