"""A desk at which hints are followed."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


class Desk:
    """Runs commands in a folder of its own: one fails with a hint, the next does what it says."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.folder = run, folder

    def fails(self, *command: object, hint: str) -> str:
        """The hint of a command that is refused, which contains the words ``hint``, with ``...`` for any others."""
        code, _, told = self.run(*command)
        assert 2 <= code <= 6, told
        assert "Traceback" not in told
        _, found, given = told.partition("hint: ")
        assert found, f"no hint: {told}"
        words = ".*".join(map(re.escape, " ".join(hint.split()).split("...")))
        assert re.search(words, " ".join(given.split())), given
        return given.strip()

    def works(self, *command: object) -> str:
        """What a command prints that does its work."""
        code, out, told = self.run(*command)
        assert code == 0, told
        return out

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture
def desk(run: Run, tmp_path: Path) -> Desk:
    return Desk(run, tmp_path)
