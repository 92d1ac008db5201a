"""Run the server until it is interrupted."""

from __future__ import annotations

from collections.abc import Callable

import uvicorn

from cinesynth.errors import OutputError
from cinesynth.web.app import make_app
from cinesynth.web.settings import ServeSettings


def serve(settings: ServeSettings, say: Callable[[str], None]) -> None:
    """Serve, and ``say`` the address once it answers. `OutputError` where the port cannot be had."""
    config = uvicorn.Config(
        make_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        limit_concurrency=64,
    )
    try:
        socket = config.bind_socket()
    except SystemExit:  # how uvicorn says that it cannot
        raise OutputError(
            f"port {settings.port} of {settings.host} cannot be had", hint="give another --port"
        ) from None
    port = socket.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    say(f"http://{host}:{port}")
    uvicorn.Server(config).run(sockets=[socket])
