"""Where files say that their voxels lie: labels and frames of another voxel order, of another place, or of none."""

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cinesynth.data.nifti import read_label, read_stack, read_volume
from cinesynth.data.orientation import apply
from cinesynth.data.sources.layout import Layout
from cinesynth.data.sources.nifti import read_nifti
from cinesynth.errors import DataError
from cinesynth.types import Label, Orientation, Study, volumes_ml
from tests.data.nifti_files import change_header, phantom, save, scanner_affine

ORDERS = [
    tuple(zip(axes, signs, strict=True)) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)
]
MIRRORED: Orientation = ((0, -1), (1, 1), (2, 1))
CYCLE = {
    "dataset": "hospital",
    "image": "{subject}/cine.nii.gz",
    "label": "{subject}/masks.nii.gz",
    "labels": {"RV": 1, "MYO": 2, "LV": 3},
    "phases": {"ed": 0, "es": 2},
}
PAIR = {
    **CYCLE,
    "image": {"ed": "{subject}/ed.nii.gz", "es": "{subject}/es.nii.gz"},
    "label": {"ed": "{subject}/ed_gt.nii.gz", "es": "{subject}/es_gt.nii.gz"},
    "phases": None,
}


@pytest.fixture(name="heart", scope="module")
def _heart() -> Study:
    return phantom()


def scanned(study: Study) -> np.ndarray:
    return scanner_affine(study.spacing_mm)


@pytest.mark.parametrize("order", ORDERS)
def test_a_label_in_any_voxel_order_that_its_header_states_lies_on_its_image(
    heart: Study, tmp_path: Path, order: Orientation
) -> None:
    affine = scanned(heart)
    image = read_volume(save(tmp_path / "i.nii.gz", heart.image[0], affine), 3)
    path = save(tmp_path / "l.nii.gz", *apply(heart.label[0], affine, order))
    if order[2][0] != 2:  # columns or rows became slices: no tool has to save a stack so
        with pytest.raises(DataError, match="the slices seem to lie along axis"):
            read_label(path, image)
        return
    assert np.array_equal(read_label(path, image), heart.label[0])
    assert len(image.notes) == (order != ((0, 1), (1, 1), (2, 1)))


def test_cycles_and_their_labels(heart: Study, tmp_path: Path) -> None:
    affine = scanned(heart)
    save(tmp_path / "a" / "cine.nii.gz", heart.image, affine)
    save(tmp_path / "a" / "masks.nii.gz", *apply(heart.label, affine, MIRRORED))
    study = read_nifti(tmp_path, Layout.model_validate(CYCLE)).read("a")
    assert np.array_equal(study.label, heart.label)
    assert study.notes == ("label: x reversed, as the headers say",)


def test_ed_and_es_of_two_voxel_orders(heart: Study, tmp_path: Path) -> None:
    affine, es = scanned(heart), heart.es_index
    turned: Orientation = ((1, 1), (0, -1), (2, -1))
    for name, frame, order in (("ed", 0, ((0, 1), (1, 1), (2, 1))), ("es", es, turned)):
        save(tmp_path / "a" / f"{name}.nii.gz", *apply(heart.image[frame], affine, order))
        save(tmp_path / "a" / f"{name}_gt.nii.gz", *apply(heart.label[frame], affine, order))
    study = read_nifti(tmp_path, Layout.model_validate(PAIR)).read("a")
    assert np.array_equal(study.image, heart.image[[0, es]])
    assert np.array_equal(study.label, heart.label[[0, es]])
    exchanged = "axes x and y exchanged, y and z reversed, as the headers say"
    assert [note.replace("x and z", "y and z") for note in study.notes] == [
        f"frame: {exchanged}",
        f"label: {exchanged}",
    ]


def test_another_place_is_refused_with_its_distance(heart: Study, tmp_path: Path) -> None:
    affine = scanned(heart)
    image = read_volume(save(tmp_path / "i.nii.gz", heart.image[0], affine), 3)
    moved = affine.copy()
    moved[:3, 3] += 30.0 * affine[:3, 0] / heart.spacing_mm[0]
    with pytest.raises(DataError, match=r"l\.nii\.gz lies up to 30 mm away from i\.nii\.gz") as caught:
        read_label(save(tmp_path / "l.nii.gz", heart.label[0], moved), image)
    assert "with the header of the image" in caught.value.hint
    # Mirrored, but with the origin of the original: not a place where these voxels can be.
    wrong = affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    with pytest.raises(DataError, match="mm away from"):
        read_label(save(tmp_path / "l.nii.gz", heart.label[0], wrong), image)
    # Following the hint helps.
    assert np.array_equal(read_label(save(tmp_path / "l.nii.gz", heart.label[0], affine), image), heart.label[0])
    save(tmp_path / "a" / "ed.nii.gz", heart.image[0], affine)
    save(tmp_path / "a" / "es.nii.gz", heart.image[heart.es_index], moved)
    with pytest.raises(DataError, match=r"es\.nii\.gz lies up to 30 mm away from ed\.nii\.gz"):
        read_nifti(tmp_path, Layout.model_validate({**PAIR, "label": None, "labels": {}})).read("a")


def test_the_corner_of_a_voxel_may_stand_for_its_centre(heart: Study, tmp_path: Path) -> None:
    affine = scanned(heart)
    image = read_volume(save(tmp_path / "i.nii.gz", heart.image[0], affine), 3)
    half = affine.copy()
    half[:3, 3] += affine[:3, :3] @ (0.5, -0.5, 0.5)
    assert np.array_equal(read_label(save(tmp_path / "l.nii.gz", heart.label[0], half), image), heart.label[0])
    assert image.notes == []


@pytest.mark.parametrize("kept", ["sform", "qform"])
def test_two_places_in_one_header_are_no_evidence(heart: Study, tmp_path: Path, kept: str) -> None:
    """sform and qform contradict each other; a program that made the label kept one of the two in both fields."""
    sform, size = scanned(heart), heart.image.shape[1:]
    qform = sform @ np.array([[-1.0, 0, 0, size[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    two = nib.Nifti1Image(heart.image[0], sform)
    two.set_sform(sform, 1)
    two.set_qform(qform, 1)
    nib.save(two, tmp_path / "i.nii.gz")
    image = read_volume(tmp_path / "i.nii.gz", 3)
    path = save(tmp_path / "l.nii.gz", heart.label[0], sform if kept == "sform" else qform)
    assert np.array_equal(read_label(path, image), heart.label[0])
    assert image.place is None


def test_headers_without_a_place_are_no_evidence(heart: Study, tmp_path: Path) -> None:
    """Axes of the scanner with the origin at 0, in either handedness, and affines without a code."""
    scale = np.diag([*heart.spacing_mm, 1.0])
    image = read_volume(save(tmp_path / "i.nii.gz", heart.image[0], scale), 3)
    other = save(tmp_path / "l.nii.gz", heart.label[0], np.diag([-1.0, -1.0, 1.0, 1.0]) @ scale)
    assert np.array_equal(read_label(other, image), heart.label[0])
    placed = read_volume(save(tmp_path / "i.nii.gz", heart.image[0], scanned(heart)), 3)
    assert np.array_equal(read_label(other, placed), heart.label[0])
    change_header(save(tmp_path / "n.nii.gz", heart.label[0], scanned(heart) @ np.diag([-1, 1, 1, 1])), sform_code=0)
    assert np.array_equal(read_label(tmp_path / "n.nii.gz", placed), heart.label[0])


# --- The size of a voxel ---------------------------------------------------------------------------------------------


def test_a_header_of_ones_has_no_voxel_size_and_the_layout_can_state_it(heart: Study, tmp_path: Path) -> None:
    for name, data in (("cine", heart.image), ("masks", heart.label)):
        save(tmp_path / "a" / f"{name}.nii.gz", data, np.eye(4))
    with pytest.raises(DataError, match="states no voxel size") as caught:
        read_nifti(tmp_path, Layout.model_validate(CYCLE)).read("a")
    with pytest.raises(DataError, match="states no voxel size"):
        read_stack(tmp_path / "a" / "cine.nii.gz")
    assert "spacing_mm: [x, y, z]" in caught.value.hint
    stated = Layout.model_validate({**CYCLE, "spacing_mm": list(heart.spacing_mm)})
    study = read_nifti(tmp_path, stated).read("a")
    true_ml = volumes_ml(heart.label, Label.LV, heart.voxel_ml)
    np.testing.assert_allclose(volumes_ml(study.label, Label.LV, study.voxel_ml), true_ml, rtol=1e-6)


def test_two_voxel_sizes_in_one_header(heart: Study, tmp_path: Path) -> None:
    path = save(tmp_path / "i.nii.gz", heart.image[0], scanned(heart))
    change_header(path, pixdim=[1, 1.5, 1.5, 8.0, 1, 1, 1, 1])
    with pytest.raises(DataError, match=r"two voxel sizes: pixdim 1\.5 x 1\.5 x 8 mm, sform 3 x 3 x 10 mm"):
        read_volume(path, 3)
    assert read_volume(path, 3, (1.5, 1.5, 8.0)).spacing_mm == (1.5, 1.5, 8.0)
    change_header(path, pixdim=[1, 1, 1, 1, 1, 1, 1, 1])
    volume = read_volume(path, 3)
    assert volume.spacing_mm == pytest.approx(heart.spacing_mm)
    assert volume.notes == ["voxel edges are those of the sform: pixdim has none"]


@pytest.mark.parametrize("axis", [0, 1])
def test_slices_along_another_axis(heart: Study, tmp_path: Path, axis: int) -> None:
    """Whatever the header says of the edges."""
    moved = np.moveaxis(heart.image[0], 2, axis)
    for affine in (np.diag([*heart.spacing_mm, 1.0]), scanned(heart)):
        path = save(tmp_path / "i.nii.gz", moved, affine)
        with pytest.raises(DataError, match=f"the slices seem to lie along axis {axis + 1}") as caught:
            read_volume(path, 3)
    assert "image.as_reoriented(" in caught.value.hint
    third = nib.Nifti1Image(np.moveaxis(moved, axis, 2), scanned(heart))
    nib.save(third, tmp_path / "i.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "i.nii.gz", 3).data, heart.image[0])


# --- Dimensions ------------------------------------------------------------------------------------------------------


def test_a_cycle_in_five_dimensions_is_told_how_to_become_one(heart: Study, tmp_path: Path) -> None:
    """As TorchIO writes channels: x, y, z, 1, time."""
    five = np.moveaxis(heart.image, 0, -1)[:, :, :, None]
    nib.save(nib.Nifti1Image(five, scanned(heart)), tmp_path / "i.nii.gz")
    with pytest.raises(DataError, match="has 5 dimensions") as caught:
        read_volume(tmp_path / "i.nii.gz", 4)
    assert "[:, :, :, 0]" in caught.value.hint
    nib.save(nib.Nifti1Image(five[:, :, :, 0], scanned(heart)), tmp_path / "i.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "i.nii.gz", 4).frames, heart.image)
