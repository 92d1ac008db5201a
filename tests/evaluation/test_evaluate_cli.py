"""``cinesynth evaluate``: a table of verdicts, an exit code, and errors without a traceback."""

import hashlib
import json
from pathlib import Path

import pytest

import cinesynth.evaluation.evaluate as evaluation
from cinesynth.evaluation.section import Metric, Section, SectionSpec
from tests.conftest import Run


@pytest.fixture
def torn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one question finds torn hearts."""
    bad = Metric("torn hearts", 3.0, limit="none", judgement="fail")
    asked = [SectionSpec("Anatomy", [], lambda measurements: Section("Anatomy", "Are hearts whole?", [bad]))]
    monkeypatch.setattr(evaluation, "section_specs", lambda *_: asked)


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
        (["--synthetic", "nowhere"], "nowhere is not a cohort", 3),
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
    assert "not the report.json of an evaluation" in err
    assert not (tmp_path / "card.md").exists()


def test_hearts_are_generated_against_known_ones(run: Run, people: Path, tmp_path: Path) -> None:
    known, case = tmp_path / "known.safetensors", tmp_path / "case"
    code, out, _ = run("training-index", "--dataset", people, "--weights", "phantom", "--out", known)
    assert code == 0
    assert "14 subjects; it shows patients" in out
    asked = ["--diagnosis", "NOR", "--edv", 130, "--frames", 2, "--no-pictures", "--weights", "phantom"]
    assert run("generate", *asked, "--training-index", known, "--out", case)[0] == 0
    record = json.loads((case / "case.json").read_text())["provenance"]
    assert record["duplicate_filters"] == f"training index {hashlib.sha256(known.read_bytes()).hexdigest()}"
    code, _, err = run("generate", *asked, "--training-index", tmp_path / "nowhere", "--out", tmp_path / "b")
    assert (code, "Traceback" in err) == (3, False)
    assert "is not a training index" in err
