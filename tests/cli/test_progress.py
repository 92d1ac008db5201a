"""Progress: what a long verb is doing, how far it is and what is left, on a terminal and in a log."""

import io

import pytest
from rich.console import Console

from cinesynth.cli import console, progress
from cinesynth.io.tasks import part_of


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def log(clock: Clock, doing: str = "reading") -> tuple[progress.Log, list[str]]:
    said: list[str] = []
    return progress.Log(progress.Tasks(doing, clock), said.append), said


def test_a_log_says_at_once_what_begins() -> None:
    tell, said = log(Clock(), "reading the weights")
    assert said == ["reading the weights"]
    tell.step("codec", 1, 40, {})
    tell.step("codec", 2, 40, {})
    assert said[1:] == ["codec 1/40"]


def test_a_log_has_a_line_a_minute_with_the_time_that_is_left() -> None:
    clock = Clock()
    tell, said = log(clock)
    for second in range(600):
        clock.now_s = float(second)
        if second % 10 == 0:
            tell.step("generate", 2 + second // 10, 122, {})  # two cases were there already
        tell.tick()
    assert said[:4] == ["reading", "generate 2/122", "generate 8/122, 0:19:00 left", "generate 14/122, 0:18:00 left"]
    assert len(said) == 2 + 9


def test_a_log_speaks_while_no_step_ends() -> None:
    clock = Clock()
    tell, said = log(clock, "reading")
    for clock.now_s in (59.0, 60.0, 61.0, 120.0):
        tell.tick()
    assert said == ["reading"] * 3
    tell.step("nnU-Net", 1, 2, {})
    clock.now_s = 180.0
    tell.tick()
    assert said[3:] == ["nnU-Net 1/2", "nnU-Net 1/2"]


def test_the_time_that_is_left_runs_down_within_a_step() -> None:
    clock = Clock()
    tasks = progress.Tasks("", clock)
    tasks.step("generate", 0, 3, {})
    clock.now_s = 90.0
    tasks.step("generate", 1, 3, {})
    clock.now_s = 150.0
    assert tasks.lines() == ["generate 1/3, 0:02:00 left"]
    clock.now_s = 900.0
    assert tasks.lines() == ["generate 1/3, 0:00:00 left"]


def test_a_cohort_shows_the_stage_of_its_case_and_forgets_it_with_the_case() -> None:
    clock = Clock()
    tasks = progress.Tasks("", clock)
    case = part_of("case", tasks.step)
    tasks.step("generate", 3, 20, {})
    case("anatomy", 30, 70, {})
    case("motion", 70, 70, {})
    case("motion", 1, 70, {})  # another case
    assert tasks.lines() == ["generate 3/20", "case: motion 1/70"]
    clock.now_s = 60.0
    tasks.step("generate", 4, 20, {})
    assert tasks.lines() == ["generate 4/20, 0:16:00 left"]


def test_stages_of_a_case_are_named_once_in_a_log() -> None:
    tell, said = log(Clock())
    for done in range(3):
        tell.step("generate", done, 3, {})
        tell.step("case: anatomy", 1, 70, {})
    assert said == ["reading", "generate 0/3", "case: anatomy 1/70"]


def test_a_task_that_begins_again_is_timed_again() -> None:
    clock = Clock()
    tasks = progress.Tasks("", clock)
    tasks.step("segmenter", 10, 10, {})
    clock.now_s = 1000.0
    tasks.step("segmenter", 1, 11, {})
    clock.now_s = 1001.0
    tasks.step("segmenter", 2, 11, {"model/loss": 0.25})
    assert tasks.lines() == ["segmenter 2/11, 0:00:09 left  loss 0.25"]


def test_a_terminal_shows_all_tasks_with_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, text = Clock(), io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=text, force_terminal=True, width=120))
    monkeypatch.setattr(progress.time, "monotonic", clock)
    with progress.shown("reading") as step:
        step("codec", 276, 276, {})
        for done in range(4):
            step("generate", done, 10, {})
            clock.now_s += 90.0 if done < 3 else 0.0
    assert "276/276" in text.getvalue()
    assert "3/10" in text.getvalue()
    assert "0:10:30 left" in text.getvalue()  # seven cases of 90 s


def test_scores_of_a_validation_stay_in_view(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=text, width=120))
    with progress.shown("reading") as step:
        step("vae", 500, 2000, {"model/loss": 1.0, "validation/score": 0.25})
    assert text.getvalue().splitlines() == ["reading", "vae 500/2000", "vae 500/2000  score 0.25"]


def test_weights_device_and_threads_are_said_first_and_not_on_stdout(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "err", Console(stderr=True, width=120))
    assert progress.announce("phantom", "cpu").name == "phantom"
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("weights phantom, cpu, ")
    assert err.endswith(" threads\n")
