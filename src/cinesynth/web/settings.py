"""Settings of the server."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cinesynth.errors import InputError

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

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise InputError(f"port {self.port} is outside 0-65535", hint="the default is 7860; 0 takes a free port")
        if not self.is_local and self.password is None and not self.no_auth:
            raise InputError(
                f"{self.host} can be reached from other machines, but no password is set",
                hint="pass --password-file, or --no-auth to allow everyone",
            )

    @property
    def own_hosts(self) -> list[str]:
        """Hosts, as in a URL, by which a browser on this machine reaches the server."""
        return [in_url(host) for host in (*LOOPBACK, self.host)]

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
        raise InputError(
            f"{path} cannot be read: {error}", hint="pass a file with the password on its first line"
        ) from None
    if mode & 0o077:
        raise InputError(f"{path} is readable by other users", hint=f"chmod 600 {path}")
    password = text.splitlines()[0].strip() if text.strip() else ""
    if len(password) < 8:
        raise InputError(f"the password in {path} is shorter than 8 characters", hint="choose a longer one")
    return password
