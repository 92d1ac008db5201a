"""Native grid, model grid and back: exact where nothing has to be lost, and what is lost where it has to be."""

from dataclasses import dataclass, replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cinesynth.config import load_config
from cinesynth.data.geometry import Grid, place
from cinesynth.data.orientation import apply, reorient
from cinesynth.data.sources.acdc import read_acdc
from cinesynth.types import STRUCTURES, LabelArray, Study
from tests.data.conftest import MakeStudy

PLANES = [((x, sx), (y, sy), (2, sz)) for (x, y), sx, sy, sz in product(permutations((0, 1)), *[(1, -1)] * 3)]
"""All orders and directions of the axes that leave slices slices."""
BLOB = 16
SPACINGS_MM = st.sampled_from([0.7, 1.0, 1.367, 1.78571, 2.3])


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_a_grid_of_the_studys_own_voxels_gives_back_the_source(make_study: MakeStudy, data: st.DataObject) -> None:
    """Reorientation, crop, pad and slice placement undo each other, whatever the sizes: no number is changed."""
    size = data.draw(st.tuples(st.integers(20, 70), st.integers(20, 70), st.integers(1, 9)), label="size")
    spacing = data.draw(st.tuples(SPACINGS_MM, SPACINGS_MM, st.sampled_from([5.0, 8.0, 10.0])), label="spacing")
    corner = data.draw(st.tuples(*[st.integers(0, n - BLOB) for n in size[:2]]), label="where the labels are")
    source = with_blob(make_study(size=size, spacing=spacing, frames=2), corner)
    study = reorient(source, data.draw(st.sampled_from(PLANES), label="orientation"))
    plane = data.draw(st.tuples(*[st.integers(2 * BLOB + 2, 90)] * 2), label="plane")
    depth = data.draw(st.integers(size[2], 16), label="depth")
    placement = place(study, Grid((*plane, depth), study.spacing_mm))

    label, affine = apply(
        placement.label_to_native(placement.label_to_grid(study.label)), study.affine, study.to_source
    )
    assert (label == source.label).all()
    np.testing.assert_allclose(affine, source.affine, atol=1e-9)
    inside = placement.label_to_native(np.ones((1, *plane, depth), dtype=np.uint8))[0] > 0
    image = placement.image_to_native(placement.image_to_grid(study.image))
    assert (image[:, inside] == study.image[:, inside]).all()
    assert inside.sum() >= BLOB**2 * size[2]


def with_blob(study: Study, corner: tuple[int, int]) -> Study:
    """``study`` with structures at random in a square of `BLOB` voxels: no neighbour tells what a voxel is."""
    x, y = corner
    label = np.zeros_like(study.label)
    blob = np.random.default_rng(x + y).integers(0, 4, (*label.shape[:1], BLOB, BLOB, label.shape[3]))
    label[:, x : x + BLOB, y : y + BLOB] = blob
    return replace(study, label=label)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_grid_that_divides_the_pixels_gives_them_back(make_study: MakeStudy, parts: int) -> None:
    study = make_study(size=(70, 66, 5), spacing=(1.7, 1.9, 7.0))
    fine = (1.7 / parts, 1.9 / parts, 7.0)
    placement = place(study, Grid((80 * parts, 80 * parts, 8), fine))
    assert (placement.label_to_native(placement.label_to_grid(study.label)) == study.label).all()


@dataclass(frozen=True)
class Patient:
    """The labels of ED and ES of a real study."""

    study: Study
    label: LabelArray

    def back(self, grid: Grid) -> LabelArray:
        placement = place(self.study, grid)
        return placement.label_to_native(placement.label_to_grid(self.label))

    def dice(self, grid: Grid) -> np.ndarray:
        """By phase and structure."""
        pairs = [[(a == s, b == s) for s in STRUCTURES] for a, b in zip(self.back(grid), self.label, strict=True)]
        return np.array([[2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in phase] for phase in pairs])


def read_patients(acdc_root: Path, every: int) -> list[Patient]:
    found = []
    source = read_acdc(acdc_root)
    for study in map(source.read, source.names[::every]):
        stored = study.frame_index.tolist()
        label = study.label[[stored.index(study.ed_index), stored.index(study.es_index)]]
        no_image = np.broadcast_to(np.uint8(0), study.image.shape)  # labels alone say where the heart lies
        found.append(Patient(replace(study, image=no_image), label))
    return found


@pytest.fixture(scope="module")
def patients(acdc_root: Path) -> list[Patient]:
    return read_patients(acdc_root, every=1)


@pytest.fixture(scope="module")
def some_patients(acdc_root: Path) -> list[Patient]:
    return read_patients(acdc_root, every=6)


@settings(max_examples=40, deadline=None)
@given(finer=st.tuples(*[st.floats(0.34, 1.0)] * 3))
def test_any_finer_grid_gives_back_every_voxel(make_study: MakeStudy, finer: tuple[float, float, float]) -> None:
    """Also labels at random, where no neighbour tells what a voxel is."""
    spacing = (1.7, 1.9, 9.0)
    drawn = make_study(size=(60, 56, 4), spacing=spacing, frames=2)
    x, y, z = (edge * part for edge, part in zip(spacing, finer, strict=True))
    for study in (drawn, with_blob(drawn, (16, 15))):
        placement = place(study, Grid((200, 200, 24), (x, y, z)))
        assert (placement.label_to_native(placement.label_to_grid(study.label)) == study.label).all()


@settings(max_examples=20, deadline=None)
@given(finer=st.tuples(*[st.floats(0.34, 0.9)] * 2))  # nearer to 1, whole voxels come before the volume
def test_a_finer_plane_keeps_the_volumes(make_study: MakeStudy, finer: tuple[float, float]) -> None:
    study = make_study(size=(60, 56, 4), spacing=(1.7, 1.9, 9.0), frames=2)
    x, y = 1.7 * finer[0], 1.9 * finer[1]
    label = place(study, Grid((200, 200, 4), (x, y, 9.0))).label_to_grid(study.label)
    for structure in STRUCTURES:
        native_ml = np.count_nonzero(study.label == structure) * 1.7 * 1.9
        assert np.count_nonzero(label == structure) * x * y == pytest.approx(native_ml, rel=0.02)


@pytest.mark.parametrize("edge_mm", [0.5, 1.0])
@pytest.mark.slow
def test_every_patient_comes_back_exactly_from_a_finer_grid(patients: list[Patient], edge_mm: float) -> None:
    """The study's own slices, any edge up to the pixel's: ED and ES of all patients, not one voxel differs."""
    for patient in patients:
        x, y, z = patient.study.spacing_mm
        if min(x, y) >= edge_mm:
            sides = round(220 / edge_mm)
            grid = Grid((sides, sides, patient.label.shape[3]), (edge_mm, edge_mm, z))
            assert np.array_equal(patient.back(grid), patient.label), patient.study.subject


@pytest.mark.slow
def test_every_patient_comes_back_from_one_millimetre(patients: list[Patient]) -> None:
    comes_back_from_one_millimetre(patients)


def test_patients_come_back_from_one_millimetre(some_patients: list[Patient]) -> None:
    comes_back_from_one_millimetre(some_patients)


def comes_back_from_one_millimetre(patients: list[Patient]) -> None:
    """The study's own slices, so that the plane alone is resampled, by a factor that is no whole number.

    Pixels finer than a millimetre (patient038, patient057) cannot come back as they were.
    """
    for patient in patients:
        least = 0.995 if min(patient.study.spacing_mm) >= 1.0 else 0.98
        grid = Grid((200, 200, patient.label.shape[3]), (1.0, 1.0, patient.study.spacing_mm[2]))
        assert patient.dice(grid).min() > least, patient.study.subject


@pytest.mark.slow
def test_slices_of_ten_millimetres_cost_thinner_ones_what_we_say(patients: list[Patient]) -> None:
    """Two of 5 mm share one of 10: median Dice over the patients, as the documents have it."""
    base = Grid.from_config(load_config("base").grid)
    thin = [patient.dice(base) for patient in patients if patient.study.spacing_mm[2] < 8]
    ed, es = np.median(thin, axis=0)
    np.testing.assert_allclose(ed, (0.942, 0.825, 0.950), atol=0.015)
    np.testing.assert_allclose(es, (0.915, 0.885, 0.908), atol=0.015)
