"""Files that hold something else than is expected: each hint is followed here, and the file is then read."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from cinesynth.data.file_faults import is_slice_over_time
from cinesynth.data.nifti import read_label, read_stack, read_volume
from cinesynth.data.sources.layout import Layout
from cinesynth.data.sources.nifti import read_nifti
from cinesynth.errors import DataError
from tests.data.nifti_files import phantom, save
from tests.data.small_sources import SOURCES

Follow = Callable[[Path, Any], object]
CYCLE = phantom().image  # T X Y Z
AFFINE = phantom().affine


def store(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    """A file with the axes of ``data`` as they are."""
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def x_y_z_t() -> np.ndarray:
    return np.moveaxis(CYCLE, 0, -1)


def padded() -> np.ndarray:
    result = x_y_z_t().astype(np.float32)
    result[:, :4] = np.nan
    return result


SHAPES: dict[str, tuple[Callable[[], np.ndarray], str, str, Follow]] = {
    "TorchIO's fifth axis": (
        lambda: x_y_z_t()[:, :, :, None],
        "has 5 dimensions",
        "numpy.asanyarray(image.dataobj)[:, :, :, 0], image.affine",
        lambda path, image: store(path, np.asanyarray(image.dataobj)[:, :, :, 0], image.affine),
    ),
    "complex numbers": (
        lambda: x_y_z_t().astype(np.complex64) * np.complex64(1j),
        "holds complex numbers",
        "numpy.abs(image.dataobj)",
        lambda path, image: store(path, np.abs(image.dataobj), image.affine),
    ),
    "NaN as padding": (
        padded,
        "NaN or infinite in 5 % of the voxels",
        "numpy.nan_to_num(image.dataobj, posinf=0, neginf=0)",
        lambda path, image: store(path, np.nan_to_num(image.dataobj, posinf=0, neginf=0), image.affine),
    ),
}


@pytest.mark.parametrize("case", SHAPES)
def test_what_a_hint_says_makes_the_file_readable(tmp_path: Path, case: str) -> None:
    make, found, said, follow = SHAPES[case]
    path = store(tmp_path / "cine.nii.gz", make())
    for read in (lambda p: read_volume(p, 4), read_stack):
        with pytest.raises(DataError, match=found) as caught:
            read(path)
        assert said in caught.value.hint
    image: Any = nib.load(path)
    follow(tmp_path / "again.nii.gz", image)
    volume = read_volume(tmp_path / "again.nii.gz", 4)
    frames = np.moveaxis(volume.data, -1, 0)
    assert np.array_equal(frames[:, :, 4:], CYCLE[:, :, 4:])
    assert not frames[:, :, :4].any() if case == "NaN as padding" else np.array_equal(frames, CYCLE)


def test_several_channels_are_not_frames(tmp_path: Path) -> None:
    path = store(tmp_path / "flow.nii.gz", np.stack([x_y_z_t()] * 3, axis=-1))
    with pytest.raises(DataError, match="has 5 dimensions") as caught:
        read_volume(path, 4)
    assert "several channels: save one of them" in caught.value.hint
    image: Any = nib.load(path)
    assert read_volume(store(path, np.asanyarray(image.dataobj)[..., 0], image.affine), 4).data.shape[3] == len(CYCLE)


@pytest.mark.parametrize("axis", [0, 1])
def test_slices_along_another_axis(tmp_path: Path, axis: int) -> None:
    """As tools write that sort axes by the scanner's: the header is right, its order is not that of a stack."""
    order = [2, 0, 1] if axis == 0 else [0, 2, 1]
    affine = AFFINE.copy()
    affine[:3, :3] = affine[:3, order]
    path = store(tmp_path / "cine.nii.gz", x_y_z_t().transpose(*order, 3), affine)
    with pytest.raises(DataError, match="voxels") as caught:
        read_volume(path, 4)
    found, _, code = caught.value.hint.partition("save ")
    assert f"the slices lie along axis {axis + 1}" in found
    image: Any = nib.load(path)
    nib.save(eval(code, {"image": image}), path)
    volume = read_volume(path, 4)
    assert np.array_equal(np.moveaxis(volume.data, -1, 0), CYCLE)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)


def test_implausible_voxels_along_every_axis(tmp_path: Path) -> None:
    path = store(tmp_path / "cine.nii.gz", x_y_z_t(), np.diag([0.1, 0.1, 0.1, 1.0]))
    with pytest.raises(DataError, match=r"voxels of 0\.1 x 0\.1 x 0\.1 mm") as caught:
        read_volume(path, 4)
    assert caught.value.hint.endswith("correct pixdim in the header")


@pytest.mark.parametrize(("unit", "factor"), [("metres", 1e-3), ("micrometres", 1e3)])
def test_voxel_sizes_in_other_units(tmp_path: Path, unit: str, factor: float) -> None:
    path = store(tmp_path / "cine.nii.gz", x_y_z_t(), np.diag([factor, factor, factor, 1.0]) @ AFFINE)
    with pytest.raises(DataError, match="has voxels of") as caught:
        read_volume(path, 4)
    assert caught.value.hint.endswith(f"these seem to be {unit}: save pixdim and affine in millimetres")
    nib.save(
        nib.Nifti1Image(x_y_z_t(), np.diag([1 / factor, 1 / factor, 1 / factor, 1.0]) @ nib.load(path).affine), path
    )
    np.testing.assert_allclose(read_volume(path, 4).spacing_mm, phantom().spacing_mm, rtol=1e-5)


def test_a_channel_for_each_label(tmp_path: Path) -> None:
    """As networks write them; what the hint says makes the labels of the heart, voxel by voxel."""
    label = phantom().label[0]
    path = store(tmp_path / "label.nii.gz", np.stack([label == n for n in range(4)], axis=-1).astype(np.uint8))
    image = read_volume(store(tmp_path / "image.nii.gz", CYCLE[0]), 3)
    with pytest.raises(DataError, match="4 dimensions") as caught:
        read_label(path, image)
    found, _, code = caught.value.hint.partition("save the number of the largest, ")
    assert "a channel for each label" in found
    whole: Any = nib.load(path)
    assert np.array_equal(read_label(store(path, eval(code, {"image": whole, "numpy": np})), image), label)


def test_labels_that_were_interpolated(tmp_path: Path) -> None:
    blurred = phantom().label[0].astype(np.float32)
    blurred[1:] = (blurred[1:] + blurred[:-1]) / 2
    image = read_volume(store(tmp_path / "image.nii.gz", CYCLE[0]), 3)
    with pytest.raises(DataError, match=r"holds the labels 0, 0\.5, 1") as caught:
        read_label(store(tmp_path / "label.nii.gz", blurred), image)
    assert "resample with nearest neighbours" in caught.value.hint


@pytest.mark.parametrize(("name", "other"), [("cine.nii.gz", "cine.nii"), ("cine.nii", "cine.nii.gz")])
def test_a_name_that_hides_whether_the_file_is_compressed(tmp_path: Path, name: str, other: str) -> None:
    path = save(tmp_path / "a" / other, CYCLE, AFFINE).rename(tmp_path / "a" / name)
    layout = Layout.model_validate({"dataset": "ward", "image": "{subject}/cine.nii.gz", "phases": {"ed": 0, "es": 2}})
    with pytest.raises(DataError, match=f"{name} cannot be read") as caught:
        read_nifti(tmp_path, layout).read("a")
    assert caught.value.hint.endswith(f"rename it to {other}")
    path.rename(tmp_path / "a" / other)
    assert np.array_equal(read_nifti(tmp_path, layout).read("a").image, CYCLE)


@pytest.mark.parametrize("name", ["acdc", "mnms", "mnms2", "cinema", "nifti cycles", "nifti times", "nifti slices"])
def test_every_source_reads_files_that_were_unpacked(tmp_path: Path, name: str) -> None:
    write, read = SOURCES[name]
    write(tmp_path)
    packed = {study.subject: study for study in read(tmp_path)}
    for path in tmp_path.rglob("*.nii.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    source = read(tmp_path)
    assert source.names == tuple(packed)
    for study in source:
        assert np.array_equal(study.image, packed[study.subject].image)
        assert np.array_equal(study.label, packed[study.subject].label)
        assert source.files is not None
        assert any(path.name.endswith(".nii") for path in source.files(study.subject))


def test_one_slice_is_not_a_stack(tmp_path: Path) -> None:
    affine = AFFINE.copy()
    for z in range(CYCLE.shape[3]):
        affine[:3, 3] = AFFINE[:3, 3] + z * AFFINE[:3, 2]
        save(tmp_path / "a" / f"cine_{z}.nii.gz", CYCLE[..., z : z + 1], affine)
    tree = {"dataset": "ward", "image": "{subject}/cine_4.nii.gz", "phases": {"ed": 0, "es": 2}}
    with pytest.raises(DataError, match=r"cine_4\.nii\.gz holds one slice") as caught:
        read_nifti(tmp_path, Layout.model_validate(tree)).read("a")
    assert "{slice}" in caught.value.hint
    with pytest.raises(DataError, match="9 files fit") as caught:
        read_nifti(tmp_path, Layout.model_validate(tree | {"image": "{subject}/cine_*.nii.gz"})).read("a")
    assert "{slice}" in caught.value.hint
    followed = Layout.model_validate(tree | {"image": "{subject}/cine_{slice}.nii.gz"})
    assert np.array_equal(read_nifti(tmp_path, followed).read("a").image, CYCLE)


def test_slices_over_time_of_three_dimensions(tmp_path: Path) -> None:
    """x y time: the hint says how to save them, and that they are then stacked."""
    study = phantom(frames=12)
    path = store(tmp_path / "cine.nii.gz", np.moveaxis(study.image[..., 4], 0, -1))
    with pytest.raises(DataError, match="has 3 dimensions") as caught:
        read_volume(path, 4)
    assert "save it as x y 1 time, and use {slice}" in caught.value.hint
    for z in range(study.image.shape[3]):
        affine = study.affine.copy()
        affine[:3, 3] += z * affine[:3, 2]
        save(tmp_path / "a" / f"{z}.nii.gz", study.image[..., z : z + 1], affine)
    layout = Layout.model_validate({"dataset": "ward", "image": "{subject}/{slice}.nii.gz"})
    assert np.array_equal(read_nifti(tmp_path, layout).read("a").image, study.image)


def test_other_formats_are_not_damaged(tmp_path: Path) -> None:
    (tmp_path / "cine.mhd").write_text("ObjectType = Image\n")
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_volume(tmp_path / "cine.mhd", 4)
    assert "save it as NIfTI" in caught.value.hint


def test_a_damaged_file_is_still_one(tmp_path: Path) -> None:
    path = tmp_path / "cine.nii.gz"
    for content in (b"", b"no image", gzip.compress(b"no image")):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read") as caught:
            read_volume(path, 4)
        assert caught.value.hint == "the file is damaged: copy it again"


@pytest.mark.parametrize("what", ["label", "image"])
def test_one_frame_where_a_cycle_is_described(tmp_path: Path, what: str) -> None:
    """Labels of one frame beside a cycle, and sets of still images at ED and ES."""
    study = phantom()
    for phase, frame in (("ed", 0), ("es", 2)):
        save(tmp_path / "a" / f"{phase}.nii.gz", study.image[frame], study.affine)
        save(tmp_path / "a" / f"{phase}_gt.nii.gz", study.label[frame], study.affine)
    save(tmp_path / "a" / "cine.nii.gz", study.image, study.affine)
    numbers = {"RV": 1, "MYO": 2, "LV": 3}
    wrong: dict[str, Any] = {"image": "{subject}/ed.nii.gz"}
    right: dict[str, Any] = {"image": {"ed": "{subject}/ed.nii.gz", "es": "{subject}/es.nii.gz"}}
    if what == "label":
        cine = {"image": "{subject}/cine.nii.gz", "labels": numbers, "phases": {"ed": 0, "es": 2}}
        wrong = cine | {"label": "{subject}/ed_gt.nii.gz"}
        right = cine | {"label": {"ed": "{subject}/ed_gt.nii.gz"}}
    with pytest.raises(DataError, match="has 3 dimensions") as caught:
        read_nifti(tmp_path, Layout.model_validate({"dataset": "ward"} | wrong)).read("a")
    assert "ed and es under image or label" in caught.value.hint
    found = read_nifti(tmp_path, Layout.model_validate({"dataset": "ward"} | right)).read("a")
    assert np.array_equal(found.image[0], study.image[0])


def test_a_cycle_where_one_frame_is_described(tmp_path: Path) -> None:
    path = save(tmp_path / "cine.nii.gz", CYCLE, AFFINE)
    with pytest.raises(DataError, match="has 4 dimensions") as caught:
        read_volume(path, 3)
    assert "image.slicer[..., 0]" in caught.value.hint
    image: Any = nib.load(path)
    nib.save(image.slicer[..., 0], path)
    assert np.array_equal(read_volume(path, 3).data, CYCLE[0])


def test_a_slice_over_time_is_not_a_stack() -> None:
    study = phantom(frames=12)
    assert all(is_slice_over_time(np.moveaxis(study.image[..., z], 0, -1)) for z in range(study.image.shape[3]))
    assert not any(is_slice_over_time(frame) for frame in study.image)
    assert not is_slice_over_time(np.full((8, 8, 12), 7))


def test_real_stacks_and_real_slices_over_time(cine_data: Path) -> None:
    stacks = [*cine_data.glob("acdc/training/*/*_frame0[1-9].nii.gz"), *cine_data.glob("mnms_edes/*/*_ED.nii.gz")]
    assert stacks
    assert not [path for path in stacks[::3] if is_slice_over_time(read_volume(path, 3).data)]
    cycles = [read_volume(path, 4).data for path in sorted(cine_data.glob("najman4d/*/cine_4d.nii.gz"))[::3]]
    middle = [cycle[:, :, cycle.shape[2] // 2] for cycle in cycles]
    assert middle
    assert all(map(is_slice_over_time, middle))
