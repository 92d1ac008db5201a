"""Partial labels on the way to the model's grid: what was said stays said, and nothing is added."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cinesynth.data.geometry import Grid, Placement, place, slice_mask
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import prepare
from cinesynth.types import STRUCTURES, Label, Study, covered_label, full_coverage, is_contiguous

MakeStudy = Callable[..., Study]
GRID = Grid((64, 64, 12), (3.0, 3.0, 10.0))
RV, MYO, LV = range(3)


def placement(slices: int, step_mm: float, grid: Grid = GRID) -> Placement:
    count = max(1, round(slices * step_mm / grid.spacing_mm[2]))
    return Placement((20, 20, slices), np.diag([3.0, 3.0, step_mm, 1.0]), grid, count, (-22, -22))


def like_sunnybrook(study: Study, slices: slice = slice(None)) -> Study:
    """LV at ED and ES, myocardium at ED, RV never; only ``slices`` were annotated."""
    coverage = np.zeros_like(study.coverage)
    coverage[[0, 2], slices, LV] = True
    coverage[0, slices, MYO] = True
    return replace(study, label=covered_label(study.label, coverage), coverage=coverage)


def test_full_coverage_is_of_the_labelled_frames() -> None:
    coverage = full_coverage(np.array([True, False]), 5)
    assert coverage.shape == (2, 5, len(STRUCTURES))
    assert coverage[0].all()
    assert not coverage[1].any()


def test_labels_that_nobody_vouches_for_are_taken_back(make_study: MakeStudy) -> None:
    study = make_study()
    coverage = study.coverage.copy()
    coverage[0, 2, MYO] = False
    label = covered_label(study.label, coverage)
    assert not (label[0, ..., 2] == Label.MYO).any()
    changed = label != study.label
    assert (study.label[changed] == Label.MYO).all()
    assert np.flatnonzero(changed.any(axis=(0, 1, 2))).tolist() == [2]


@pytest.mark.parametrize(
    ("covered", "known"), [([0, 1, 1, 0], True), ([1], True), ([1, 0, 1], False), ([0, 0], False), ([], False)]
)
def test_gaps(covered: list[int], known: bool) -> None:
    assert is_contiguous(np.array(covered, dtype=bool)) is known


@given(st.integers(1, 24), st.floats(4.0, 20.0), st.lists(st.booleans(), min_size=2, max_size=2))
def test_what_is_fully_annotated_stays_so(slices: int, step_mm: float, labelled: list[bool]) -> None:
    grid = Grid((64, 64, 52), (3.0, 3.0, 10.0))
    found = placement(slices, step_mm, grid).coverage_to_grid(full_coverage(np.array(labelled), slices))
    assert found.tolist() == full_coverage(np.array(labelled), 52).tolist()


@pytest.mark.parametrize(
    ("step_mm", "native", "expected"),
    [
        (10.0, [0, 1, 1, 0], [0, 1, 1, 0]),
        (5.0, [0, 1, 1, 1, 1, 1], [0, 1, 1]),  # two slices share a slab: both must be annotated
        (5.0, [1, 1, 1, 1, 1, 0], [1, 1, 0]),
        (20.0, [1, 0], [1, 1, 0, 0]),
        (7.5, [1, 1, 1, 0], [1, 1, 0]),
        (9.8, [1, 0, 0, 0], [1, 0, 0, 0]),  # a hair of the second slice does not count
    ],
)
def test_a_slab_is_annotated_where_what_fills_it_is(step_mm: float, native: list[int], expected: list[int]) -> None:
    coverage = np.zeros((1, len(native), 3), dtype=bool)
    coverage[0, :, LV] = native
    way = placement(len(native), step_mm)
    found = way.coverage_to_grid(coverage)
    assert found[0, way.slice_mask, LV].astype(int).tolist() == expected
    assert found[0, ~way.slice_mask, LV].all()  # beyond the stack lies no heart
    assert not found[..., [RV, MYO]].any()


def test_the_grid_holds_what_was_said(make_study: MakeStudy, tmp_path: Path) -> None:
    study = like_sunnybrook(make_study(spacing=(2.0, 2.0, 8.0), size=(80, 76, 10)), slice(1, 9))
    (row,) = ingest([study], tmp_path / "d").added
    packed = prepare(tmp_path / "d", GRID)
    record = packed.records[0]
    assert record.coverage.shape == (4, 12, 3)
    assert record.labelled.tolist() == [True, False, True, False]
    assert not record.coverage[..., RV].any()
    assert not record.coverage[2, :, MYO].any()
    assert record.coverage[0, slice_mask(record.slices, 12)].any()
    for t in range(4):
        label = packed.label(0, t)
        assert np.array_equal(covered_label(label[None], record.coverage[t : t + 1])[0], label)
    assert record.lv_edv_ml == pytest.approx(row.lv_edv_ml, rel=0.02)  # slabs half annotated count towards volumes
    assert record.lv_esv_ml == pytest.approx(row.lv_esv_ml, rel=0.02)


def test_volumes_with_gaps_are_unknown_on_the_grid_too(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study()
    coverage = study.coverage.copy()
    coverage[0, 3, LV] = False
    ingest([replace(study, label=covered_label(study.label, coverage), coverage=coverage)], tmp_path / "d")
    record = prepare(tmp_path / "d", GRID).records[0]
    assert record.lv_edv_ml is None
    assert record.lv_esv_ml is not None


def test_a_partly_annotated_heart_is_found_by_what_there_is(make_study: MakeStudy) -> None:
    study = make_study()
    partial = like_sunnybrook(study, slice(2, 4))
    assert np.abs(np.subtract(place(partial, GRID).offset, place(study, GRID).offset)).max() <= 6
