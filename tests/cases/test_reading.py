"""Cases and cohorts of earlier releases are read like those of today."""

import json
from pathlib import Path

import pytest

from cinesynth.cases.cohort import cohort_cases, cohort_row
from cinesynth.cases.reading import read_case, read_sidecar
from cinesynth.cases.schema import sidecar
from cinesynth.errors import DataError
from tests.cases.exports import generated, save_generated

STAGE = {
    "accepted": True,
    "tries": 2,
    "kept_try": 1,
    "rules": {},
    "failed_rules_by_try": [["rule"], []],
    "refused_tries": 0,
    "tidied_ml": 0.12,
    "control": None,
}
OF_VERSION_0_1 = {
    "orientation": "axes as ACDC arrays; slice 0 is the base; no scanner frame",
    "intensity": "500 (x + 1) of x in [-1, 1]",
    "provenance": {
        "synthetic": True,
        "request": {"seed": 3},
        "weights": {"preset": "compact", "sha256": "0" * 64},
        "acceptance": {"accepted": True, "anatomy": STAGE, "motion": {**STAGE, "tries": 1}},
    },
}


@pytest.fixture
def old_case(tmp_path: Path) -> Path:
    """A case with the sidecar that cinesynth 0.1.0 wrote."""
    folder = save_generated(tmp_path / "case")
    content = json.loads((folder / "case.json").read_text())
    (folder / "case.json").write_text(json.dumps({**content, **OF_VERSION_0_1}))
    return folder


def test_an_old_sidecar_is_read_with_the_keys_of_today(old_case: Path) -> None:
    content = read_sidecar(old_case)
    assert content is not None
    today = sidecar(generated(), {})
    assert (
        content["orientation"]
        == today["orientation"]
        == {
            "axes": "acdc",
            "first_slice": "base",
            "scanner_coordinates": False,
        }
    )
    assert content["intensity"] == today["intensity"] == {"scale": 500, "offset": -1}
    anatomy = content["provenance"]["acceptance"]["anatomy"]
    assert (anatomy["attempts"], anatomy["kept_attempt"], anatomy["postprocessing_ml"]) == (2, 1, 0.12)
    row = cohort_row("case", content)
    assert (row["anatomy_attempts"], row["motion_attempts"]) == (2, 1)
    assert read_case(old_case, "case").es_index == 2


def test_a_stored_intensity_is_what_the_sidecar_says(old_case: Path) -> None:
    code = sidecar(generated(), {})["intensity"]
    stored = read_case(old_case, "case").image
    assert (stored / code["scale"] + code["offset"]) == pytest.approx(generated().image, abs=0.5 / code["scale"] + 1e-6)


def test_the_table_of_an_old_cohort_is_read_unless_there_is_a_new_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no readable cohort\.csv"):
        cohort_cases(tmp_path)
    (tmp_path / "manifest.csv").write_text("case,seed\ncase_0000,1\n")
    assert cohort_cases(tmp_path) == ("case_0000",)
    (tmp_path / "cohort.csv").write_text("case,seed\ncase_0001,1\n")
    assert cohort_cases(tmp_path) == ("case_0001",)
