"""``cinesynth evaluate``: a table of verdicts, an exit code, and errors without a traceback."""

from collections.abc import Callable
from pathlib import Path

import pytest

import cinesynth.evaluation.evaluate as evaluation
from cinesynth.cli import main
from cinesynth.evaluation.question import Question
from cinesynth.evaluation.section import Measure, Section

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line; returns exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.setattr("sys.argv", ["cinesynth", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def torn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one question finds torn hearts."""
    bad = Measure("torn hearts", 3.0, limit="none", judgement="fail")
    asked = [Question("Anatomy", [], lambda evidence: Section("Anatomy", "Are hearts whole?", [bad]))]
    monkeypatch.setattr(evaluation, "questions", lambda *_: asked)


@pytest.mark.parametrize(("flags", "expected"), [([], 0), (["--strict"], 10)])
@pytest.mark.usefixtures("torn")
def test_a_fail_is_told_and_is_an_error_only_if_asked(
    run: Run, people: Path, cohort_folder: Path, tmp_path: Path, flags: list[str], expected: int
) -> None:
    code, out, err = run("evaluate", "--real", people, "--synthetic", cohort_folder, "--out", tmp_path, *flags)
    assert code == expected
    for word in ("Anatomy", "fail", "torn hearts", "index.html: fail"):
        assert word in out
    assert "Traceback" not in err
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "report.json"}


@pytest.mark.parametrize(
    ("flags", "found", "expected"),
    [
        (["--synthetic", "nowhere"], "nowhere is no cohort", 3),
        (["--real", "nowhere"], "nowhere is not a dataset", 3),
        (["--split", "train"], "not held out", 2),
        (["--weights", "nothing"], "there are no weights nothing", 4),
    ],
)
def test_bad_input_is_told(
    run: Run, people: Path, cohort_folder: Path, tmp_path: Path, flags: list[str], found: str, expected: int
) -> None:
    code, out, err = run("evaluate", "--real", people, "--synthetic", cohort_folder, "--out", tmp_path / "out", *flags)
    assert code == expected
    assert found in err
    assert "hint:" in err
    assert "Traceback" not in err
    assert not out
    assert not (tmp_path / "out" / "report.json").exists()


def test_a_card_of_a_broken_report_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"about": {}}')
    code, _, err = run("card", tmp_path, "--out", tmp_path / "card.md")
    assert code == 3
    assert "not the JSON of an evaluation" in err
    assert not (tmp_path / "card.md").exists()
