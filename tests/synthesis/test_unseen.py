"""A condition that no training subject had is refused on every path: nobody taught the networks what it means."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cinesynth.cases.writing import save_case
from cinesynth.errors import InputError
from cinesynth.synthesis.animate import AnimationRequest, animate
from cinesynth.synthesis.cohort import counterfactual, draw_requests, kept_anatomy
from cinesynth.synthesis.cohort_file import read_cohort
from cinesynth.synthesis.cohort_schema import requests_of
from cinesynth.synthesis.patient import read_patient
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.types import CONDITIONS, Cine, ClinicalPrior, Diagnosis
from cinesynth.weights.prior_fit import fit
from tests.bundles import make_bundle, people
from tests.conftest import Run
from tests.data.nifti_files import phantom, save

RV = ClinicalPrior.from_ef(Diagnosis.RV, 150.0, 50.0, slices=8)
"""The tiny weights know healthy, dilated and hypertrophic hearts."""


def from_python(pipe: CinePipeline, cine: Cine, folder: Path) -> object:
    return pipe(RV, frames=2)


def drawn(pipe: CinePipeline, cine: Cine, folder: Path) -> object:
    return draw_requests(pipe, 2, diagnosis=Diagnosis.RV)


def from_a_table(pipe: CinePipeline, cine: Cine, folder: Path) -> object:
    (folder / "cohort.csv").write_text("diagnosis,edv,ef\nNOR,130,60\nRV,150,50\n")
    return requests_of(read_cohort(folder / "cohort.csv"), pipe)


def drawn_by_a_table(pipe: CinePipeline, cine: Cine, folder: Path) -> object:
    (folder / "cohort.yaml").write_text("cases: [{diagnosis: RV, count: 2}]")
    return requests_of(read_cohort(folder / "cohort.yaml"), pipe)


def of_a_kept_anatomy(pipe: CinePipeline, cine: Cine, folder: Path) -> object:
    save_case(cine, folder / "case", pictures=False)
    return list(pipe.generate([counterfactual(kept_anatomy(folder / "case", pipe), diagnosis=Diagnosis.RV)]))


def of_an_animation(pipe: CinePipeline, cine: Cine, folder: Path) -> object:
    study = phantom(0)
    patient = read_patient(save(folder / "ed.nii.gz", study.image[:1], study.affine))
    return animate(pipe, patient, AnimationRequest(Request(ClinicalPrior(Diagnosis.RV)), 50.0))


@pytest.mark.parametrize(
    "path", [from_python, drawn, from_a_table, drawn_by_a_table, of_a_kept_anatomy, of_an_animation]
)
def test_a_diagnosis_that_no_training_subject_had(
    pipe: CinePipeline, cine: Cine, tmp_path: Path, path: Callable[[CinePipeline, Cine, Path], object]
) -> None:
    with pytest.raises(InputError, match="no training subject has the diagnosis RV") as error:
        path(pipe, cine, tmp_path)
    assert error.value.hint == "leave it out; these weights know NOR, DCM, HCM"


@pytest.mark.parametrize(
    "flags", [[], ["--edv", "150", "--ef", "50"], ["--count", "2"], ["--edv", "90", "--count", "2"]]
)
def test_the_command_line_refuses_it_alone_and_beside_volumes(
    weights: Path, tmp_path: Path, run: Run, flags: list[str]
) -> None:
    code, _, err = run("generate", "--diagnosis", "RV", *flags, "--weights", weights, "--out", tmp_path / "out")
    assert code == 2
    assert "no training subject has the diagnosis RV" in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_settings_may_list_what_no_subject_had(tmp_path: Path) -> None:
    """A vendor of the preset that nobody's scanner was of, and an RV that nobody drew."""
    records, known = people()
    known = [ClinicalPrior(p.diagnosis, p.lv_edv_ml, p.lv_esv_ml, p.slices, vendor=p.vendor) for p in known]
    settings = (f"conditions=[{', '.join(CONDITIONS)}]", "vendors=[Canon, GE, Siemens]")
    weights = make_bundle(tmp_path / "bundle", *settings, prior=fit(records, known))
    pipe = CinePipeline.from_pretrained(weights, device="cpu", precision="fp32")
    for asked, said, hint in (
        (ClinicalPrior(vendor="canon"), "the vendor canon", "leave it out; these weights know GE, Siemens"),
        (
            ClinicalPrior(rv_edv_ml=150.0),
            "a known rv_edv_ml",
            "leave it out; these weights know lv_edv_ml, lv_esv_ml, slices",
        ),
    ):
        with pytest.raises(InputError, match=f"no training subject has {said}") as error:
            pipe.plan(Request(asked))
        assert error.value.hint == hint
    assert pipe.plan(Request(ClinicalPrior(vendor="unknown"))).prior.vendor == "unknown"


def test_what_phantoms_beside_patients_teach_counts_for_numbers_only() -> None:
    """Not every network sees phantoms, but masks that they taught measure the RV of patients."""
    records, known = people()
    lv_alone = [ClinicalPrior(p.diagnosis, p.lv_edv_ml, p.lv_esv_ml, p.slices) for p in known]
    phantom_ = ClinicalPrior(Diagnosis.RV, 120.0, 60.0, 8, 140.0, 80.0, 90.0, "phantom")
    seen = fit(records, lv_alone, [phantom_]).seen
    assert seen.lacks(ClinicalPrior(rv_edv_ml=150.0, rv_esv_ml=70.0, myo_mass_g=100.0)) == []
    assert seen.lacks(ClinicalPrior(Diagnosis.RV, vendor="phantom")) == ["diagnosis", "vendor"]


def test_weights_of_before_know_their_diagnoses(pipe: CinePipeline) -> None:
    """They recorded the subjects of each diagnosis, and nothing else of the kind."""
    values = {key: value for key, value in pipe.prior.to_json().items() if key != "seen"}
    seen = type(pipe.prior).from_json(values).seen
    assert seen.lacks(ClinicalPrior(Diagnosis.RV, vendor="GE", rv_edv_ml=150.0)) == ["diagnosis"]
    assert seen.part(RV) == ClinicalPrior(Diagnosis.UNKNOWN, 150.0, 75.0, 8)
