"""Pictures show hearts in true proportions, the frames that matter, and curves of what was annotated."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import affine_transform

from cinesynth.errors import DataError
from cinesynth.reports.contact_sheet import Timing, _draw_curves, render_contact_sheet, render_study
from cinesynth.reports.slices import COLOURS, PlaneView, contours, render_gif, tile, window_of
from cinesynth.types import Cine, Diagnosis, Label, Study, full_coverage
from tests.cases.exports import box_heart


@pytest.fixture
def box() -> Cine:
    return box_heart()


def test_a_picture_has_true_proportions() -> None:
    """A disc of 20 mm radius on voxels of 1 x 2 mm is round on the picture, and as large as it should be."""
    x, y = np.meshgrid(np.arange(120) - 60.0, (np.arange(60) - 30.0) * 2, indexing="ij")
    disc = np.where(np.hypot(x, y) <= 20, Label.LV, 0).astype(np.uint8)
    view = PlaneView((60.0, 30.0), (1.0, 2.0, 10.0), field_mm=80.0, pixels=160)
    rows, columns = np.nonzero(contours(disc, view))
    assert np.ptp(rows) == pytest.approx(80, abs=4)  # 40 mm at half a millimetre a pixel
    assert np.ptp(columns) == pytest.approx(80, abs=4)


def test_pictures_show_the_first_axis_to_the_right() -> None:
    plane = np.zeros((40, 40), dtype=np.float32)
    plane[30, 10] = 1.0
    picture = tile(plane, None, PlaneView((19.5, 19.5), (1.0, 1.0, 10.0), 40.0, 40), (0.0, 1.0))
    row, column = np.unravel_index(picture[..., 0].argmax(), (40, 40))
    assert (row, column) == (10, 30)


@pytest.mark.parametrize("order", [1, 3])
def test_planes_are_interpolated_as_scipy_does(order: Literal[1, 3]) -> None:
    """Two matrices draw the splines of `scipy.ndimage.affine_transform`, also where the view leaves the image."""
    plane = np.random.default_rng(0).normal(size=(90, 70)).astype(np.float32)
    view = PlaneView((50.2, 20.7), (1.0, 1.4, 10.0), 100.0, 130)
    step, middle = 100.0 / 130, 129 / 2
    scale = np.array([step / 1.4, step / 1.0])
    expected = affine_transform(
        plane.T, scale, np.array([20.7, 50.2]) - scale * middle, (130, 130), order=order, cval=-9.0
    )
    assert (expected == -9.0).sum() > 1000
    np.testing.assert_allclose(view.draw(plane, order, -9.0), expected, atol=1e-4)


def test_a_sheet_shows_its_slices_unscaled(tmp_path: Path, box: Cine) -> None:
    spacing_mm = (2.0, 1.5, 10.0)
    render_contact_sheet(box.image, box.label, spacing_mm, tmp_path / "sheet.png", timing=Timing(0, 2), pixels=96)
    with Image.open(tmp_path / "sheet.png") as picture:
        sheet = np.asarray(picture.convert("RGB"))
    view, window = PlaneView.of(box.label, box.image.shape, spacing_mm, 160.0, 96), window_of(box.image)
    for column in range(box.image.shape[-1]):  # the first row is ED
        expected = tile(box.image[0, ..., column], box.label[0, ..., column], view, window)
        np.testing.assert_array_equal(sheet[40:136, 80 + 96 * column : 176 + 96 * column], expected)


def test_contours_are_drawn_in_their_colours(box: Cine) -> None:
    view = PlaneView((12.0, 10.0), (2.0, 1.5, 10.0), 60.0, 96)
    picture = tile(box.image[0, ..., 3], box.label[0, ..., 3], view, (-1.0, 1.0))
    for colour in COLOURS.values():
        assert (picture == colour).all(axis=-1).sum() > 20


def test_gif_beats_in_time(box: Cine, tmp_path: Path) -> None:
    render_gif(box.image, box.label, (2.0, 1.5, 10.0), box.frame_time_ms, tmp_path / "beat.gif", pixels=64)
    with Image.open(tmp_path / "beat.gif") as gif:
        assert gif.n_frames == 5
        assert gif.info["duration"] == 30  # 31.25 ms in hundredths of a second
        assert gif.info["loop"] == 0
        assert gif.size == (3 * 64, 2 * 64)


def test_phases_of_a_sheet() -> None:
    assert Timing(3, 10).shown(12) == [(3, "ED"), (6, "systole"), (10, "ES"), (0, "diastole"), (1, "diastole")]
    assert Timing(0, 1).shown(2) == [(0, "ED"), (1, "ES")]
    assert [name for _, name in Timing(0, 11).shown(30)] == ["ED", "systole", "ES", "diastole", "diastole"]


@pytest.mark.parametrize("labelled", [True, False])
def test_a_real_study_makes_a_sheet(tmp_path: Path, box: Cine, labelled: bool) -> None:
    image = (1000 * (box.image[[0, 2]] + 1)).astype(np.int16)
    label = box.label[[0, 2]] if labelled else None
    render_contact_sheet(image, label, (2.0, 1.5, 10.0), tmp_path / "s.png", timing=Timing(0, 1), pixels=32)
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size[0] > 7 * 32 + 400


def test_curves_are_of_what_was_annotated(box: Cine) -> None:
    """LV at ED and ES, myocardium at ED, RV never: not a curve that falls to zero."""
    axes = Figure().subplots()
    annotated = np.array([[False, True, True], [False, False, True]])
    _draw_curves(axes, box.label[[0, 2]], annotated, 1.0, Timing(0, 1))
    points = {line.get_label(): len(line.get_xdata()) for line in axes.lines if line.get_label() in Label.__members__}
    assert points == {"MYO": 1, "LV": 2}


def test_a_study_of_the_dataset_makes_a_sheet(tmp_path: Path, box: Cine) -> None:
    frames = np.array([0, 2])
    study = Study(
        subject="p1",
        dataset="test",
        vendor="none",
        diagnosis=Diagnosis.DCM,
        image=box.image[frames],
        label=box.label[frames],
        coverage=full_coverage(np.array([True, True]), box.label.shape[3]),
        frame_index=frames,
        frames_in_cycle=5,
        ed_index=0,
        es_index=2,
        affine=box.affine,
    )
    render_study(study, tmp_path / "study.png")
    assert [p.name for p in tmp_path.iterdir()] == ["study.png"]
    with pytest.raises(DataError, match="frame 3 of p1 is not stored"):
        render_study(replace(study, es_index=3), tmp_path / "study.png")
