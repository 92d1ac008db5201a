"""Orientation: every way in has its way back, and the base is found where it is known to be."""

import re
from collections import Counter
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cinesynth.data.nifti import MNMS_NUMBERS, OUR_NUMBERS, Numbers, read_label, read_volume
from cinesynth.data.orientation import (
    PLANE,
    apex_cosine,
    apply,
    base_first,
    base_lead,
    compose,
    invert,
    oriented,
    plane_order,
    reorient,
)
from cinesynth.types import SAME_ORIENTATION, STRUCTURES, Label, Orientation, Study, full_coverage
from tests.data.nifti_files import SCANNER, phantom, scanner_affine
from tests.real_subjects import table

TRANSFORMS = [
    tuple(zip(axes, flips, strict=True)) for axes in permutations(range(3)) for flips in product((1, -1), repeat=3)
]
REVERSED: Orientation = ((0, 1), (1, 1), (2, -1))
SCANNERS = {
    "SCD0000101": [[0.10, -0.35, -0.93], [0.73, 0.66, -0.16], [-0.67, 0.67, -0.32]],
    "SCD0000301": SCANNER.tolist(),
}
"""RAS+ directions of columns, rows and slices of the two Sunnybrook studies whose headers are known; base first."""


@given(st.sampled_from(TRANSFORMS), st.tuples(*[st.integers(1, 5)] * 3), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_the_way_back_is_exact(transform: Orientation, size: tuple[int, int, int], time: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 255, (2, *size) if time else size)
    affine = np.vstack([rng.normal(size=(3, 4)), [0.0, 0.0, 0.0, 1.0]])
    there, affine_there = apply(array, affine, transform)
    back, affine_back = apply(there, affine_there, invert(transform))
    assert np.array_equal(back, array)
    np.testing.assert_allclose(affine_back, affine, atol=1e-9)
    assert compose(transform, invert(transform)) == SAME_ORIENTATION == compose(invert(transform), transform)


@given(st.sampled_from(TRANSFORMS), st.sampled_from(TRANSFORMS), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_a_voxel_keeps_its_millimetres(first: Orientation, second: Orientation, seed: int) -> None:
    rng = np.random.default_rng(seed)
    affine = np.vstack([rng.normal(size=(3, 4)), [0.0, 0.0, 0.0, 1.0]])
    array = np.arange(60).reshape(3, 4, 5)
    once, affine_once = apply(array, affine, first)
    twice, affine_twice = apply(once, affine_once, second)
    direct, affine_direct = apply(array, affine, compose(first, second))
    assert np.array_equal(twice, direct)
    np.testing.assert_allclose(affine_twice, affine_direct, atol=1e-9)
    marked = tuple(rng.integers(0, array.shape))
    (moved,) = np.argwhere(twice == array[marked])
    np.testing.assert_allclose(affine_twice @ [*moved, 1], affine @ [*marked, 1], atol=1e-9)


@pytest.mark.parametrize("transform", [t for t in TRANSFORMS if t[2][0] == 2])
def test_a_study_goes_back_to_its_source(transform: Orientation) -> None:
    study = replace(phantom(), affine=scanner_affine(phantom().spacing_mm))
    study = replace(study, coverage=study.coverage & (np.arange(study.image.shape[3]) < 4)[:, None])
    turned = reorient(study, transform)
    assert turned.voxel_ml == pytest.approx(study.voxel_ml)
    for name in ("image", "label"):
        back, affine = apply(getattr(turned, name), turned.affine, turned.to_source)
        assert np.array_equal(back, getattr(study, name))
        np.testing.assert_allclose(affine, study.affine, atol=1e-9)
    again = reorient(turned, turned.to_source)
    assert again.to_source == SAME_ORIENTATION
    assert np.array_equal(again.coverage, study.coverage)
    assert turned.coverage[0, 0 if transform[2][1] == 1 else -1].all()


def test_slices_cannot_become_rows() -> None:
    with pytest.raises(ValueError, match="slice axis"):
        reorient(phantom(), ((2, 1), (1, 1), (0, 1)))


@pytest.mark.parametrize("structures", [STRUCTURES, (Label.LV,), (Label.MYO,), (Label.MYO, Label.LV)])
@pytest.mark.parametrize("seed", range(5))
def test_the_base_is_the_wider_end(seed: int, structures: tuple[Label, ...]) -> None:
    study = phantom(seed)
    label = np.where(np.isin(study.label, structures), study.label, 0).astype(np.uint8)
    coverage = full_coverage(study.labelled, label.shape[3]) & [structure in structures for structure in STRUCTURES]
    for flip in (False, True):
        stack = label[0, ..., ::-1] if flip else label[0]
        assert base_first(stack, coverage[0], np.eye(4)) == (flip, "labels")
    source = reorient(replace(study, label=label, coverage=coverage), REVERSED)
    found = oriented(replace(source, to_source=SAME_ORIENTATION))
    assert np.array_equal(found.image, study.image)
    assert (found.slices_from, found.to_source) == ("labels", REVERSED)


def test_slices_that_nobody_looked_at_do_not_count() -> None:
    label, coverage = phantom().label[0].copy(), phantom().coverage[0].copy()
    whole = base_lead(label, coverage)
    label[..., :2], coverage[:2] = 0, False
    assert 0 < base_lead(label, coverage) != whole
    assert base_lead(label, np.zeros_like(coverage)) == 0.0
    assert base_lead(label[..., :3], coverage[:3]) == 0.0  # one slice has no ends
    assert base_lead(np.where(label == Label.RV, label, 0), coverage) == 0.0


@pytest.mark.parametrize("name", SCANNERS)
def test_the_header_tells_where_labels_do_not(name: str) -> None:
    study = replace(phantom(), affine=scanner_affine(phantom().spacing_mm, np.array(SCANNERS[name])))
    blind = replace(study, label=np.zeros_like(study.label), coverage=np.zeros_like(study.coverage))
    assert apex_cosine(study.affine) > 0.95
    found, turned = oriented(blind), oriented(replace(reorient(blind, REVERSED), to_source=SAME_ORIENTATION))
    assert found.slices_from == turned.slices_from == "header"
    assert np.array_equal(found.image, turned.image)
    np.testing.assert_allclose(found.affine, turned.affine)
    assert turned.to_source == compose(found.to_source, REVERSED)


def test_labels_go_before_the_header() -> None:
    upside_down = SCANNER * [[1], [1], [-1]]
    study = replace(phantom(), affine=scanner_affine(phantom().spacing_mm, upside_down))
    found = oriented(study)
    assert (found.slices_from, found.to_source[2]) == ("labels", (2, 1))


@pytest.mark.parametrize("diagonal", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_an_affine_along_the_scanner_says_nothing(diagonal: tuple[int, int, int]) -> None:
    affine = np.diag([*(np.array(diagonal) * (1.5, 1.5, 10.0)), 1.0])
    study = replace(phantom(), affine=affine)
    blind = replace(study, label=np.zeros_like(study.label), coverage=np.zeros_like(study.coverage))
    found = oriented(blind)
    assert (found.slices_from, found.to_source) == ("declared", SAME_ORIENTATION)
    assert np.array_equal(found.image, study.image)


def test_a_declared_order_is_taken_at_its_word() -> None:
    kept, turned = oriented(phantom(), "base_first"), oriented(phantom(), "apex_first")
    assert kept.slices_from == turned.slices_from == "declared"
    assert np.array_equal(turned.image, kept.image[..., ::-1])


def plane_of(study: Study) -> np.ndarray:
    """Cosines of the stored in-plane axes with those of the convention."""
    return PLANE @ (study.affine[:3, :2] / study.spacing_mm[:2])


@pytest.mark.parametrize("transform", [t for t in TRANSFORMS if t[2] == (2, 1)])
def test_all_ways_to_store_a_plane_become_one(transform: Orientation) -> None:
    study = replace(phantom(), affine=scanner_affine(phantom().spacing_mm))
    stored = replace(reorient(study, transform), to_source=SAME_ORIENTATION)
    found = oriented(stored)
    assert found.to_source == transform
    assert np.array_equal(found.image, study.image)
    assert (np.diag(plane_of(found)) > 0.9).all()


def test_the_two_real_planes_agree_after_all() -> None:
    """One of the two Sunnybrook studies is stored a quarter turn from the other."""
    orders = {name: plane_order(scanner_affine((1.4, 1.4, 8.0), np.array(axes))) for name, axes in SCANNERS.items()}
    assert orders == {"SCD0000101": ((1, 1), (0, -1), (2, 1)), "SCD0000301": SAME_ORIENTATION}


def test_a_plane_between_two_orders_is_left_alone() -> None:
    turn = np.array([[1.0, 1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, np.sqrt(2.0)]]) / np.sqrt(2.0)
    assert plane_order(
        scanner_affine((1.4, 1.4, 8.0), turn @ np.vstack([PLANE, [-1.0, 1.0, -1.0] / np.sqrt(3.0)]))
    ) == (SAME_ORIENTATION)


def test_axes_that_are_not_quite_square_are_kept() -> None:
    directions = SCANNER.copy()
    directions[0] += 0.03 * directions[2]
    study = oriented(replace(phantom(), affine=scanner_affine((1.4, 1.4, 8.0), directions)))
    back, affine = apply(study.image, study.affine, study.to_source)
    np.testing.assert_allclose(affine, scanner_affine((1.4, 1.4, 8.0), directions), atol=1e-9)
    assert np.array_equal(back, phantom().image)


def real_orders(files: list[Path], numbers: Numbers) -> Counter[tuple[bool, str]]:
    """Decisions of the label rule on label files as they lie on disk."""
    result: Counter[tuple[bool, str]] = Counter()
    for path in files:
        label = read_label(path, read_volume(path, 3), numbers)
        result[base_first(label, full_coverage(np.ones(1, bool), label.shape[2])[0], np.eye(4))] += 1
    return result


def ed_labels(acdc_root: Path) -> list[Path]:
    folders = sorted((acdc_root / "training").glob("patient*"))
    eds = {f: int(re.search(r"ED: (\d+)", (f / "Info.cfg").read_text())[1]) for f in folders}  # type: ignore[index]
    return [f / f"{f.name}_frame{ed:02d}_gt.nii.gz" for f, ed in eds.items()]


def test_the_base_of_every_real_stack_is_found(cine_data: Path, acdc_root: Path) -> None:
    """ACDC and Sunnybrook are published base first; most of M&Ms is not."""
    acdc = ed_labels(acdc_root)
    assert real_orders(acdc, OUR_NUMBERS) == {(False, "labels"): len(acdc)}
    scd = sorted(cine_data.glob("scd_edes/*/*_ed_gt.nii.gz"))
    assert real_orders(scd, OUR_NUMBERS) == {(False, "labels"): len(table(cine_data / "scd_edes"))}
    experts = sorted(cine_data.glob("najman4d/*/expert*_ED.nii.gz"))
    assert real_orders(experts, {1: Label.LV, 2: Label.MYO}) == {
        (False, "labels"): 2 * len(table(cine_data / "najman4d"))
    }
    mnms = sorted(cine_data.glob("mnms_edes/*/*_ED_gt.nii.gz"))
    # Ten of the stacks begin with the atria and the great vessels.
    assert real_orders(mnms, MNMS_NUMBERS) == {
        (True, "labels"): len(table(cine_data / "mnms_edes")) - 10,
        (False, "labels"): 10,
    }
    assert nib.load(acdc[0]).affine[0, 1] == 0.0  # ACDC has no orientation: the labels alone decide
