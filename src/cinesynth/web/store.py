"""Uploads and results of sessions, in a temporary folder of bounded size that is deleted with the process.

Names on disk and in URLs are random; no part of them comes from a user.
"""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cinesynth.errors import InputError

TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")
GONE = InputError("this item is not in your session", hint="it may have been deleted to free space: make it again")


def token() -> str:
    """An unguessable name of 128 random bits."""
    return secrets.token_urlsafe(16)


@dataclass
class Entry:
    """An upload or a result of a session."""

    name: str
    session: str
    kind: str
    folder: Path
    about: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    """Files that may be downloaded, by their name in the URL."""
    made: float = field(default_factory=time.time)

    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


class Store:
    """Entries by session. The oldest are removed when all together are too large; so are those that are too old."""

    def __init__(self, limit_bytes: int, keep_s: float) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="cinesynth-"))
        self.limit_bytes, self.keep_s = limit_bytes, keep_s
        self._entries: dict[str, Entry] = {}
        self._lock = threading.RLock()

    def new(self, session: str, kind: str) -> Entry:
        """A new empty entry with its own folder."""
        name = token()
        folder = self.root / name
        folder.mkdir()
        entry = Entry(name, session, kind, folder)
        with self._lock:
            self._entries[name] = entry
        return entry

    def get(self, session: str, name: str) -> Entry:
        """An entry of this session; `InputError` for any other, whether it exists or not."""
        with self._lock:
            entry = self._entries.get(name) if TOKEN.fullmatch(name) else None
        if entry is None or not secrets.compare_digest(entry.session, session):
            raise GONE
        return entry

    def of(self, session: str, kind: str | None = None) -> list[Entry]:
        """The entries of a session, newest first."""
        with self._lock:
            found = [e for e in self._entries.values() if e.session == session and kind in (None, e.kind)]
        return sorted(found, key=lambda entry: -entry.made)

    def remove(self, entry: Entry) -> None:
        """Forget an entry and delete its files."""
        with self._lock:
            self._entries.pop(entry.name, None)
        shutil.rmtree(entry.folder, ignore_errors=True)

    def clean(self, needed: int = 0) -> None:
        """Free ``needed`` bytes, oldest entries first, and remove entries that are too old."""
        with self._lock:
            entries = sorted(self._entries.values(), key=lambda entry: entry.made)
        sizes = {entry.name: entry.size() for entry in entries}
        total, now = sum(sizes.values()) + needed, time.time()
        for entry in entries:
            if total > self.limit_bytes or now - entry.made > self.keep_s:
                total -= sizes[entry.name]
                self.remove(entry)

    def close(self) -> None:
        """Delete everything."""
        with self._lock:
            self._entries.clear()
        shutil.rmtree(self.root, ignore_errors=True)
