"""Generators with a planted defect are refused by the report, and real hearts are not."""

from pathlib import Path

import pytest

from cinesynth.data.packed import PackedDataset
from cinesynth.evaluation.cases import Case, patients
from cinesynth.evaluation.evaluate import evaluate, section_specs
from cinesynth.evaluation.report import EvaluationReport
from tests.evaluation.conftest import as_generated, changed_cohort, noisy, shifted_masks, shuffled, write_cohort


def needs(word: str) -> pytest.MarkDecorator:
    """Skip unless the report has a section with this word in its title."""
    titles = [spec.title for spec in section_specs()]
    return pytest.mark.skipif(not any(word in title.lower() for title in titles), reason=f"no section on {word} yet")


def judgement(report: EvaluationReport, word: str) -> str | None:
    (section,) = [section for section in report.sections if word in section.title.lower()]
    return section.judgement


def test_held_out_people_in_place_of_generated_hearts_fail_nothing(
    people: Path, packed: PackedDataset, tmp_path: Path, measured_once: Path
) -> None:
    """Real test data against real training data, as a cohort: the floor of the evaluation itself."""
    test = patients(packed.split("test"), "test")
    folder = write_cohort([as_generated(case, seed=i) for i, case in enumerate(test)], tmp_path / "cohort")
    report = evaluate(people, folder, tmp_path / "out", workers=1, cache=measured_once)
    assert [(s.title, s.judgement) for s in report.sections if s.judgement == "fail"] == []
    assert report.judgement in ("pass", "warn")


def test_other_good_hearts_do_not_fail_the_motion(
    people: Path, cohort_folder: Path, tmp_path: Path, measured_once: Path
) -> None:
    assert judgement(evaluate(people, cohort_folder, tmp_path, workers=1, cache=measured_once), "motion") != "fail"


def test_broken_motion_is_refused(people: Path, cohort_folder: Path, tmp_path: Path, measured_once: Path) -> None:
    folder = changed_cohort(cohort_folder, tmp_path / "cohort", shuffled)
    report = evaluate(people, folder, tmp_path / "out", workers=1, cache=measured_once)
    assert judgement(report, "motion") == "fail"
    assert report.judgement == "fail"
    (verdict,) = [v for v in report.verdicts if "motion" in v.title.lower()]
    assert "roughness of the LV curve" in verdict.decided_by


@needs("memor")
def test_a_memoriser_is_refused(people: Path, packed: PackedDataset, tmp_path: Path, measured_once: Path) -> None:
    """Training cases with noise."""
    train = patients(packed.split("train"), "train")
    copies = [as_generated(noisy(train[i], seed=i), seed=i) for i in range(12)]
    report = evaluate(
        people, write_cohort(copies, tmp_path / "cohort"), tmp_path / "out", workers=1, cache=measured_once
    )
    assert judgement(report, "memor") == "fail"


@needs("anatomy")
def test_a_mask_shifter_is_refused(people: Path, cohort_folder: Path, tmp_path: Path, measured_once: Path) -> None:
    """Masks that lie beside the heart of the image: by which section is for the modules to say."""

    def beside(case: Case, seed: int) -> Case:
        return shifted_masks(case)

    folder = changed_cohort(cohort_folder, tmp_path / "cohort", beside)
    assert evaluate(people, folder, tmp_path / "out", workers=1, cache=measured_once).judgement == "fail"
