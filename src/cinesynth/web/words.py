"""What a server may say: no path of its own."""

from __future__ import annotations

import re

_PATH = re.compile(r"(?<!\w)(?:[A-Za-z]:|\.{1,2})?[/\\](?:[^\s/\\:;,'\"()]+[/\\])+([^\s/\\:;,'\"()]*)")


def without_paths(text: str) -> str:
    """``text`` with the last part of each path alone."""
    return _PATH.sub(lambda found: found[1] or "a folder", text)
