"""The codec is judged where somebody said what is right."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cinesynth.data.geometry import Grid, slice_mask
from cinesynth.data.ingest import ingest
from cinesynth.data.normalisation import from_uint8
from cinesynth.data.packed import PackedDataset, prepare
from cinesynth.data.phantom import phantom_study
from cinesynth.errors import InputError
from cinesynth.evaluation.cases import CaseSet
from cinesynth.evaluation.codec import section_spec
from cinesynth.evaluation.measure import measure
from cinesynth.evaluation.reconstruction import score_codec, score_frame, score_image
from cinesynth.evaluation.score import ScoreReport
from cinesynth.models.vae import Decoded
from cinesynth.types import Label, covered_label
from cinesynth.weights.folder import Bundle
from tests.bundles import make_bundle
from tests.evaluation.answers import answer
from tests.evaluation.conftest import GRID

LV = 2


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """One analytic heart: everything annotated at ED, at ES only the LV of all slices but the first two."""
    study = phantom_study(0, frames=6).study
    coverage = np.zeros_like(study.coverage)
    coverage[study.ed_index] = True
    coverage[study.es_index, 2:, LV] = True
    study = replace(study, label=covered_label(study.label, coverage), coverage=coverage)
    folder = tmp_path_factory.mktemp("partial") / "dataset"
    ingest([study], folder)
    return prepare(folder, Grid((96, 96, 16), (2.0, 2.0, 10.0)))


def codec_that_says(label: np.ndarray) -> Any:
    """A codec that halves contrast, and whose every decoded mask is ``label`` (``X Y Z``)."""
    logits = torch.nn.functional.one_hot(torch.from_numpy(label).long(), 4).movedim(-1, 0)[None].float()
    return SimpleNamespace(
        encode=lambda image, _: image / 2,
        decode=lambda latent, _: Decoded(latent, logits),
        labels=lambda logits, _: label[None],
        config=SimpleNamespace(norm="group"),  # it sees all slices
    )


def test_a_mask_is_right_if_it_is_right_where_it_was_annotated(partial: PackedDataset) -> None:
    record = partial.records[0]
    truth = partial.label(0, record.es)
    said = truth.copy()
    said[:10, :10] = Label.RV  # nobody annotated the RV at ES
    said[..., ~record.coverage[record.es, :, LV]] = Label.LV
    score = score_frame(codec_that_says(said), partial, 0, record.es, "ES")
    assert score.dice == {"LV": 1.0}
    assert score.lv_error_percent == 0.0


def test_a_mask_is_wrong_if_it_is_wrong_where_it_was_annotated(partial: PackedDataset) -> None:
    record = partial.records[0]
    empty = np.zeros_like(partial.label(0, record.es))
    assert score_frame(codec_that_says(empty), partial, 0, record.es, "ES").dice == {"LV": 0.0}
    truth = partial.label(0, record.ed)
    assert score_frame(codec_that_says(truth), partial, 0, record.ed, "ED").dice == {"RV": 1.0, "MYO": 1.0, "LV": 1.0}


def test_frames_without_any_label_are_not_scored(partial: PackedDataset) -> None:
    done: list[tuple[str, int, int]] = []
    record = partial.records[0]
    codec = codec_that_says(partial.label(0, record.ed))
    scores = score_codec(codec, partial, lambda task, i, total, _: done.append((task, i, total)))
    assert [score.phase for score in scores] == ["ED", "ES"]
    assert done == [("codec", 1, 2), ("codec", 2, 2)]
    blind = PackedDataset(partial.path, partial.grid, partial.data_hash, [])
    blind.records = [replace(record, coverage=np.zeros_like(record.coverage))]
    assert score_codec(codec, blind, lambda *_: None) == []
    empty = ScoreReport({"split": "test", "match_volumes": False})
    table = next(empty.tables())
    assert [tuple(row[1:]) for row in table.rows] == [(None, None, None, 0)] * len(table.rows)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle"), "grid.size=[64,64,12]")


def test_the_ceiling_is_of_real_people_and_that_of_score(
    weights: Path, people: Path, synthetic: CaseSet, held_out: CaseSet
) -> None:
    result = answer(section_spec(weights), synthetic, held_out, held_out)
    found = {m.name: m for m in result.metrics}
    data = prepare(people, GRID).split("test")
    codec = Bundle.load(weights).codec
    scores = score_codec(codec, data, lambda *_: None)
    assert found["PSNR"].count == 2 * len(held_out) == len(scores)
    assert found["PSNR"].value == pytest.approx(np.mean([s.psnr_db for s in scores]), rel=1e-3)
    assert found["SSIM"].value == pytest.approx(np.mean([s.ssim for s in scores]), rel=1e-2)
    assert found["Dice LV"].value == pytest.approx(np.mean([s.dice["LV"] for s in scores]), abs=1e-2)
    assert result.judgement is None
    measured = measure(synthetic, section_spec(weights).measurers, workers=1)
    assert np.isnan(measured["codec.psnr_db"]).all()  # they came out of a codec already


def test_slices_that_were_not_acquired_change_no_score(weights: Path, people: Path) -> None:
    data, codec = prepare(people, GRID).split("test"), Bundle.load(weights).codec
    record = data.records[0]
    acquired = slice_mask(record.slices, GRID.size[2])
    assert not acquired.all()
    image, truth = from_uint8(data.image(0, record.ed)), data.label(0, record.ed)[..., acquired]
    coverage = record.coverage[record.ed, acquired]
    everywhere = score_image(codec, image, acquired, truth, coverage, GRID.spacing_mm, subject="", phase="ED")
    score = score_frame(codec, data, 0, record.ed, "ED")
    assert score.dice == pytest.approx(everywhere.dice)
    assert score.lv_reconstructed_ml == pytest.approx(everywhere.lv_reconstructed_ml)
    assert (score.psnr_db, score.ssim) == pytest.approx((everywhere.psnr_db, everywhere.ssim), rel=1e-5)


def test_hearts_on_another_grid_are_refused(weights: Path, held_out: CaseSet) -> None:
    fine = held_out.changed("fine", lambda case: replace(case, spacing_mm=(1.0, 1.0, 10.0)))
    with pytest.raises(InputError, match="the hearts are at") as error:
        measure(fine, section_spec(weights).measurers, workers=1)
    assert "weights" in error.value.hint


def test_distances_stand_beside_dice(partial: PackedDataset) -> None:
    record = partial.records[0]
    truth = partial.label(0, record.ed)
    off = np.roll(truth, 1, axis=0)
    exact, shifted = (score_frame(codec_that_says(x), partial, 0, record.ed, "ED") for x in (truth, off))
    assert exact.hd95_mm == {"RV": 0.0, "MYO": 0.0, "LV": 0.0}
    assert shifted.hd95_mm["LV"] == pytest.approx(2.0)
    empty = score_frame(codec_that_says(np.zeros_like(truth)), partial, 0, record.ed, "ED")
    assert all(distance > 50 for distance in empty.hd95_mm.values())  # missed: from corner to corner
