"""Progress: how long it takes still."""

import io

import pytest
from rich.console import Console

from cinesynth.cli import console, generate


def test_cases_that_last_minutes_tell_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, text = [0.0], io.StringIO()
    terminal = Console(file=text, force_terminal=True, width=120, get_time=lambda: now_s[0])
    monkeypatch.setattr(console, "err", terminal)
    with console.progress() as step:
        for done in range(4):
            step("generate", done, 10, {})
            now_s[0] += 90.0
    assert "3/10" in text.getvalue()
    assert "0:10:30" in text.getvalue()  # seven cases of 90 s


def test_a_log_has_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, text = [0.0], io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=text, width=120))
    monkeypatch.setattr(generate.time, "monotonic", lambda: now_s[0])
    tell = generate._progress(lambda *_: None)
    for done in range(2, 11):  # two were there
        tell("generate", done, 10, {})
        now_s[0] += 20.0
    lines = text.getvalue().splitlines()
    assert lines[0] == "generate 4/10, 0:02:00 left"
    assert lines[-1] == "generate 10/10, 0:00:00 left"
    assert len(lines) == 4
