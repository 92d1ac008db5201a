"""The score command's figures come from held-out subjects and are in the report."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from cinesynth.data.dataset_table import DatasetTable
from cinesynth.data.ingest import ingest
from cinesynth.data.phantom import phantom_study
from cinesynth.errors import InputError
from cinesynth.evaluation.score import ScoreReport, score_bundle
from cinesynth.io.files import file_sha256
from cinesynth.weights.scores import (
    TOLERANCES,
    compare,
    figure_of,
    read_scores,
    record_scores,
    recorded_scores,
    without_subjects,
)
from tests.bundles import make_bundle

VENDORS = ("Siemens", "Philips", "GE")
FRAMES = 6


def quiet(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle"), "grid.size=[64,64,12]")


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighteen people of two datasets and three vendors."""
    folder = tmp_path_factory.mktemp("hospitals") / "dataset"
    studies = [
        replace(
            phantom_study(100 + i, frames=FRAMES).study,
            subject=f"person{i:02d}",
            dataset="one" if i % 2 else "two",
            vendor=VENDORS[i % 3],
        )
        for i in range(18)
    ]
    ingest(studies, folder)
    return folder


@pytest.fixture(scope="module")
def report(hospitals: Path, weights: Path) -> ScoreReport:
    return score_bundle(hospitals, weights, split="test", count=3, seed=0, progress=quiet, frames=FRAMES, workers=1)


def test_scores_are_of_held_out_subjects(hospitals: Path, report: ScoreReport, weights: Path, tmp_path: Path) -> None:
    held = {row.subject for row in DatasetTable.read(hospitals) if row.split == "test"}
    assert {frame.subject for frame in report.frames} == held
    assert len(report.frames) == 2 * len(held)  # ED and ES
    assert [pair.quantity for pair in report.hearts.pairs][:2] == ["EDV mL", "ESV mL"]
    codec, *_, copies = report.tables()
    assert {"Dice LV", "Dice MYO", "Dice RV", "PSNR dB"} <= {str(row[0]) for row in codec.rows}
    assert [row[0] for row in copies.rows] == ["image", "mask"]
    report.write(tmp_path / "score.json")
    content = read_scores(tmp_path / "score.json")
    metadata = content["metadata"]
    assert set(metadata["subjects"]) == held
    assert metadata["same_data_as_training"] is False
    assert metadata["weights"] == file_sha256(weights / "bundle.json")
    assert (metadata["n_subjects"], metadata["cases"], metadata["frames_per_case"], metadata["seed"]) == (
        len(held),
        3,
        FRAMES,
        0,
    )
    assert content["seconds_per_case"] == pytest.approx(np.median(content["rows"]["seconds"]))
    assert not any(row.is_regression for row in compare(content, content) if not row.tolerance.absolute)


def test_groups_add_up_to_all(report: ScoreReport) -> None:
    codec = report.to_json()["codec"]
    for groups in (codec["datasets"], codec["vendors"]):
        assert len(groups) > 1
        for name in ("subjects", "frames"):
            assert sum(group[name] for group in groups.values()) == codec["all"][name]
        for name, figure in codec["all"]["figures"].items():
            parts = [group["figures"][name] for group in groups.values() if group["figures"][name]["count"]]
            assert sum(part["count"] for part in parts) == figure["count"]
            if figure["count"]:
                whole = sum(part["count"] * part["mean"] for part in parts) / figure["count"]
                assert whole == pytest.approx(figure["mean"])
    siemens = [f.psnr_db for f in report.frames if f.vendor == "Siemens"]
    assert codec["vendors"]["Siemens"]["figures"]["PSNR"]["mean"] == pytest.approx(np.mean(siemens))


def test_every_compared_figure_has_its_place_in_a_report(report: ScoreReport) -> None:
    """Only r and EF may be unknown, of random weights whose hearts have no LV."""
    content = report.to_json()
    lost = {tolerance.name for tolerance in TOLERANCES if figure_of(content, tolerance) is None}
    assert lost <= {"r EDV", "r ESV", "r EF", "MAE EF %"}
    for quantity in ("EDV mL", "ESV mL"):
        assert "r" in content["control"][quantity]


def test_motion_stands_beside_real_whole_cycles(report: ScoreReport) -> None:
    motion = report.to_json()["temporal"]
    assert set(motion) == {"cycle closure", "change outside the heart", "roughness of the LV curve"}
    closure = motion["cycle closure"]
    assert closure["count"] == 3
    assert closure["floor"] > 0  # that of real cycles
    assert [asdict(m) for m in report.motion] == list(motion.values())


def test_what_travels_with_weights_names_nobody(report: ScoreReport, weights: Path) -> None:
    content = without_subjects(json.loads(json.dumps(report.to_json())))
    assert not [row.subject for row in report.frames if row.subject in json.dumps(content)]
    record_scores(weights, content)
    assert recorded_scores(weights) == content


def test_without_cases_there_is_the_codec_alone(phantoms: Path, weights: Path) -> None:
    report = score_bundle(phantoms, weights, split="validation", count=0, seed=0, progress=quiet)
    content = report.to_json()
    assert (content["control"], content["temporal"], content["memorisation"]) == ({}, {}, {})
    assert (content["accepted"]["rate"], content["seconds_per_case"]) == (None, None)
    assert len(list(report.tables())) == 2  # one dataset and one vendor need no table of their own


def test_training_subjects_are_not_scored(phantoms: Path, weights: Path) -> None:
    with pytest.raises(InputError, match="not held out"):
        score_bundle(phantoms, weights, split="train", count=0, seed=0, progress=quiet)
