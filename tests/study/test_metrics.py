"""Scores of a subject: known shifts in millimetres, the cost of a missed structure, and the frames that are tested."""

from dataclasses import replace

import numpy as np
import pytest

from cinesynth.errors import DataError
from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.comparison import mean_of_frames
from cinesynth.evaluation.segmenter import look_at
from cinesynth.study.metrics import ed_es_frames, segmentation_scores
from cinesynth.types import STRUCTURES, Label, LabelArray, Study
from tests.cases.exports import small

LV = STRUCTURES.index(Label.LV)


@pytest.fixture
def cube() -> Study:
    """Two frames, both annotated, with an LV of 10 x 10 x 4 voxels of 2 x 2 x 10 mm."""
    study = small("cube")
    label = np.zeros((2, 40, 40, 8), dtype=np.uint8)
    label[:, 10:20, 10:20, 2:6] = Label.LV
    return replace(
        study,
        image=np.zeros(label.shape, dtype=np.int16),
        label=label,
        coverage=np.ones((2, 8, len(STRUCTURES)), dtype=np.bool_),
        frame_index=np.array([0, 3]),
        frames_in_cycle=8,
        ed_index=0,
        es_index=3,
        affine=np.diag([2.0, 2.0, 10.0, 1.0]),
    )


def test_the_annotation_itself_is_perfect_and_absent_structures_are_unknown(cube: Study) -> None:
    found = segmentation_scores(cube.label, cube)
    assert [found[m][LV] for m in ("dice", "hd95_mm", "assd_mm")] == [1.0, 0.0, 0.0]
    assert np.isnan(found["dice"][[i for i in range(3) if i != LV]]).all()


def test_a_shift_is_measured_in_millimetres(cube: Study) -> None:
    found = segmentation_scores(np.roll(cube.label, 2, axis=1), cube)  # 4 mm
    assert found["dice"][LV] == pytest.approx(0.8)
    assert found["hd95_mm"][LV] == pytest.approx(4.0)
    assert 0.5 < found["assd_mm"][LV] < 2.0  # the mean over faces that moved and faces that did not


def test_a_missed_structure_counts_as_the_diagonal_of_the_stack(cube: Study) -> None:
    label = cube.label.copy()
    label[1] = 0
    found = segmentation_scores(label, cube)
    assert found["dice"][LV] == pytest.approx(0.5)  # found at ED, missed at ES
    diagonal = np.linalg.norm([20.0, 20.0, 80.0])
    assert found["hd95_mm"][LV] == pytest.approx(diagonal / 2)


def test_the_evaluation_and_a_study_count_a_missed_structure_alike(cube: Study) -> None:
    """Of three hearts one has its LV missed: every mean is the worse for it, by the same millimetres."""
    found = np.roll(cube.label, 2, axis=1)  # 4 mm off
    everywhere = {"name": "cube", "diagnosis": cube.diagnosis, "image": np.zeros(cube.label.shape, np.uint8)}
    geometry = {"spacing_mm": cube.spacing_mm, "ed": 0, "es": 1, "whole_cycle": False, "frame_time_ms": None}
    case = Case(**everywhere, label=cube.label, coverage=cube.coverage, **geometry)
    means = []
    for labels in ([found] * 3, [found, found, np.zeros_like(found)]):
        in_study = [segmentation_scores(label, cube)["hd95_mm"][LV] for label in labels]
        in_evaluation = [look_at(Drawn(label), case)["hd95_mm"][:, LV] for label in labels]  # ED, ES of each heart
        section = mean_of_frames("HD95 LV", np.array(in_evaluation), "nowhere").value
        assert section == pytest.approx(np.mean(in_study))
        means.append(section)
    assert means == pytest.approx([4.0, (4.0 + 4.0 + np.linalg.norm([20.0, 20.0, 80.0])) / 3])


class Drawn:
    """A segmenter that answers with a label."""

    def __init__(self, label: LabelArray) -> None:
        self.label = label

    def segment(self, *_: object) -> LabelArray:
        return self.label


def test_slices_without_annotation_do_not_count(cube: Study) -> None:
    cube.coverage[:, 6:] = False
    label = cube.label.copy()
    label[..., 6:] = Label.LV
    assert segmentation_scores(label, cube)["dice"][LV] == 1.0


def test_ed_and_es_are_tested(cube: Study) -> None:
    more = replace(
        cube,
        image=np.zeros((3, 40, 40, 8), dtype=np.int16),
        label=np.concatenate([cube.label, cube.label[:1]]),
        coverage=np.ones((3, 8, len(STRUCTURES)), dtype=np.bool_),
        frame_index=np.array([0, 3, 5]),
    )
    assert ed_es_frames(more).frame_index.tolist() == [0, 3]
    with pytest.raises(DataError, match="annotated neither at ED nor at ES"):
        ed_es_frames(replace(more, coverage=np.zeros_like(more.coverage), label=np.zeros_like(more.label)))
