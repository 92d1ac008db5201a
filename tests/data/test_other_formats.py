"""MetaImage, NRRD and sequences of 3D Slicer: the same voxels, millilitres and directions as in NIfTI."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cinesynth.data import other_formats
from cinesynth.data.nifti import read_volume
from cinesynth.data.sources.layout import Layout
from cinesynth.data.sources.nifti import read_nifti
from cinesynth.errors import DataError, InputError
from cinesynth.types import Label, volumes_ml
from tests.data.nifti_files import phantom, scanner_affine

STUDY = phantom()
AFFINE = scanner_affine(STUDY.spacing_mm)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0]) @ AFFINE
FRAME_MS = 35


def sitk() -> Any:
    return pytest.importorskip("SimpleITK", reason="the extra cinesynth[formats] is not installed")


def write_itk(path: Path, frames: np.ndarray) -> None:
    """``T X Y Z`` (or ``X Y Z``) with four dimensions (or three), as SimpleITK writes it."""
    library = sitk()
    moving = frames.ndim == 4
    edges = np.linalg.norm(LPS[:3, :3], axis=0)
    image = library.GetImageFromArray(
        np.ascontiguousarray(np.transpose(frames, (0, 3, 2, 1) if moving else None)), isVector=False
    )
    direction = np.eye(4 if moving else 3)
    direction[:3, :3] = LPS[:3, :3] / edges
    image.SetDirection(direction.ravel().tolist())
    image.SetSpacing([*edges.tolist(), *([float(FRAME_MS)] if moving else [])])
    image.SetOrigin([*LPS[:3, 3].tolist(), *([0.0] if moving else [])])
    library.WriteImage(image, str(path), True)


def write_sequence(path: Path, frames: np.ndarray, *, list_first: bool) -> None:
    """As 3D Slicer writes a sequence: a list axis, the first one up to version 5.8, then the last one."""
    space = [f"({','.join(map(str, LPS[:3, axis]))})" for axis in range(3)]
    size = [str(n) for n in frames.shape[1:]]
    one = {"kinds": "list", "sizes": str(len(frames)), "space directions": "none"}
    rows = {"kinds": ["domain"] * 3, "sizes": size, "space directions": space}
    fields = {key: [one[key], *rest] if list_first else [*rest, one[key]] for key, rest in rows.items()}
    axis = 0 if list_first else 3
    header = [
        *("NRRD0005", "type: short", "dimension: 4", "space: left-posterior-superior"),
        *(f"{key}: {' '.join(values)}" for key, values in fields.items()),
        *("endian: little", "encoding: raw", f"space origin: ({','.join(map(str, LPS[:3, 3]))})"),
        *(f"axis {axis} index type:=numeric", f"axis {axis} index values:="),
    ]
    header[-1] += " ".join(str(FRAME_MS * frame) for frame in range(len(frames)))
    data = frames if list_first else np.moveaxis(frames, 0, -1)
    path.write_bytes("\n".join([*header, "", ""]).encode() + data.astype("<i2").tobytes(order="F"))


WRITERS: dict[str, tuple[str, Callable[[Path, np.ndarray], None]]] = {
    "MetaImage": (".mha", write_itk),
    "NRRD": (".nrrd", write_itk),
    "Slicer": (".seq.nrrd", lambda path, frames: write_sequence(path, frames, list_first=False)),
    "Slicer up to 5.8": (".seq.nrrd", lambda path, frames: write_sequence(path, frames, list_first=True)),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_cycle_with_labels(tmp_path: Path, kind: str) -> None:
    sitk()
    ending, write = WRITERS[kind]
    (tmp_path / "a").mkdir()
    write(tmp_path / "a" / f"cine{ending}", STUDY.image.astype(np.int16))
    write(tmp_path / "a" / f"masks{ending}", STUDY.label.astype(np.int16))
    layout = {
        "dataset": "ward",
        "image": f"{{subject}}/cine{ending}",
        "label": f"{{subject}}/masks{ending}",
        "labels": {"RV": 1, "MYO": 2, "LV": 3},
    }
    found = read_nifti(tmp_path, Layout.model_validate(layout)).read("a")
    assert np.array_equal(found.image, STUDY.image)
    assert np.array_equal(found.label, STUDY.label)
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-4)
    assert found.frame_time_ms == pytest.approx(FRAME_MS)
    volumes, drawn = (volumes_ml(each.label, Label.LV, each.voxel_ml) for each in (found, STUDY))
    assert volumes == pytest.approx(drawn, rel=1e-4)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_one_frame(tmp_path: Path, ending: str) -> None:
    write_itk(tmp_path / f"ed{ending}", STUDY.image[0])
    volume = read_volume(tmp_path / f"ed{ending}", 3)
    assert np.array_equal(volume.data, STUDY.image[0])
    assert volume.spacing_mm == pytest.approx(STUDY.spacing_mm)
    with pytest.raises(DataError, match="has 3 dimensions"):
        read_volume(tmp_path / f"ed{ending}", 4)


def test_colours_and_vectors_are_not_frames(tmp_path: Path) -> None:
    library = sitk()
    image = library.GetImageFromArray(np.zeros((4, 8, 8, 3), np.int16), isVector=True)
    for name in ("flow.nrrd", "flow.mha"):
        library.WriteImage(image, str(tmp_path / name))
        with pytest.raises(DataError, match="has 3 values a voxel") as caught:
            read_volume(tmp_path / name, 4)
        assert "one value a voxel" in caught.value.hint


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_damaged_files(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"cine{ending}"
    write_itk(path, STUDY.image)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"no image", b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"cine{ending} cannot be read") as caught:
            read_volume(path, 4)
        assert "copy it again" in caught.value.hint


def test_a_header_that_promises_too_much(tmp_path: Path) -> None:
    sitk()
    path = tmp_path / "cine.nrrd"
    path.write_bytes(
        b"NRRD0004\ntype: short\ndimension: 3\nsizes: 9000 9000 9000\nencoding: raw\nendian: little\n\n1234"
    )
    with pytest.raises(DataError, match="declares 729000 million voxels"):
        read_volume(path, 3)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first subject: skipping bad subjects would skip all of them."""
    monkeypatch.setattr(other_formats, "find_spec", lambda name: None)
    (tmp_path / "a.nrrd").write_bytes(b"")
    layout = Layout.model_validate({"dataset": "ward", "image": "{subject}.nrrd"})
    with pytest.raises(InputError, match="SimpleITK, which is not installed") as caught:
        read_nifti(tmp_path, layout)
    assert caught.value.hint == 'pip install "cinesynth[formats]"'
    with pytest.raises(InputError, match=r"a\.nrrd is read by SimpleITK"):
        read_volume(tmp_path / "a.nrrd", 3)
