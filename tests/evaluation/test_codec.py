"""The codec is judged where somebody said what is right."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cinesynth.data.geometry import Grid
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import PackedDataset, prepare
from cinesynth.data.phantom import phantom_study
from cinesynth.evaluation.codec import score_codec, score_frame
from cinesynth.evaluation.requests import ControlResult
from cinesynth.evaluation.score import ScoreReport
from cinesynth.models.vae import Decoded
from cinesynth.types import Label, covered_label

LV = 2


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
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
    return SimpleNamespace(encode=lambda image, _: image / 2, decode=lambda latent, _: Decoded(latent, logits))


def test_a_mask_is_right_if_it_is_right_where_it_was_annotated(packed: PackedDataset) -> None:
    record = packed.records[0]
    truth = packed.label(0, record.es)
    said = truth.copy()
    said[:10, :10] = Label.RV  # nobody annotated the RV at ES
    said[..., ~record.coverage[record.es, :, LV]] = Label.LV
    score = score_frame(codec_that_says(said), packed, 0, record.es, "ES")
    assert score.dice == {"LV": 1.0}
    assert score.lv_error_percent == 0.0


def test_a_mask_is_wrong_if_it_is_wrong_where_it_was_annotated(packed: PackedDataset) -> None:
    record = packed.records[0]
    empty = np.zeros_like(packed.label(0, record.es))
    assert score_frame(codec_that_says(empty), packed, 0, record.es, "ES").dice == {"LV": 0.0}
    truth = packed.label(0, record.ed)
    assert score_frame(codec_that_says(truth), packed, 0, record.ed, "ED").dice == {"RV": 1.0, "MYO": 1.0, "LV": 1.0}


def test_frames_without_any_label_are_not_scored(packed: PackedDataset) -> None:
    done: list[tuple[int, int]] = []
    record = packed.records[0]
    codec = codec_that_says(packed.label(0, record.ed))
    scores = score_codec(codec, packed, lambda *step: done.append(step))
    assert [score.phase for score in scores] == ["ED", "ES"]
    assert done == [(1, 2), (2, 2)]
    blind = PackedDataset(packed.path, packed.grid, packed.data_hash, [], [])
    blind.records = [replace(record, coverage=np.zeros_like(record.coverage))]
    assert score_codec(codec, blind, lambda *_: None) == []
    empty = ScoreReport({"split": "test", "closed_loop": False}, [], [], ControlResult([], 0, 0))
    table = next(iter(empty.tables().values()))
    assert [row[1:] for row in table.rows] == [(None, None, None, 0)] * len(table.rows)
