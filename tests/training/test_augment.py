"""What augmentation may change and what it must not, in millimetres on any grid."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cinesynth.io.reproducibility import stream
from cinesynth.training.appearance import (
    APPEARANCES,
    Appearance,
    bias_field,
    coarsen,
    degrade,
    draw_appearance,
    gaussian_blur,
    recolour,
)
from cinesynth.training.augment import (
    VIEWS,
    Item,
    View,
    augment,
    cut_stack,
    draw_bend,
    draw_copy,
    draw_cut,
    draw_view,
    look,
    sampling_points,
)

SPACING = (2.0, 2.0, 10.0)
GRID = (64, 64)


def disc(size: tuple[int, int, int] = (*GRID, 6), spacing_mm: float = 2.0, radius_mm: float = 36.0) -> Tensor:
    """A label ``1 X Y Z`` of three nested rings, off the centre."""
    x, y = (spacing_mm * (torch.arange(n) - (n - 1) / 2) - off for n, off in zip(size[:2], (4.0, -7.0), strict=True))
    distance = (x[:, None] ** 2 + y[None] ** 2).sqrt() / radius_mm
    plane = (distance < 1).long() + (distance < 0.66).long() + (distance < 0.4).long()
    return plane[None, ..., None].expand(1, *size).clone()


def frame() -> Item:
    """A frame of six slices, the first not acquired; the image is the label's."""
    label, mask = disc(), torch.tensor([False, *[True] * 5])
    label[..., 0] = 0
    image = torch.where(mask, label / 1.5 - 1.0, -1.0)
    return {"image": image, "label": label, "coverage": torch.ones(6, 3, dtype=torch.bool), "slice_mask": mask}


def views(count: int) -> Iterator[View]:
    for index in range(count):
        view = draw_view(stream(0, "view", index), GRID, (56, 56), SPACING[:2], 1.0)
        bend = draw_bend(stream(0, "bend", index), (56, 56), SPACING[:2], 1.0)
        yield replace(view, bend_mm=bend)


def dice(a: Tensor, b: Tensor) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_an_elastic_view_moves_image_and_label_together() -> None:
    """The label of the image that was moved is the label that was moved."""
    label = disc()
    for view in views(8):
        moved = look(label.float(), view, nearest=True)
        for structure in (1, 2, 3):
            image = (label >= structure).float()
            assert dice(look(image, view) > 0.5, moved >= structure) > 0.97
        assert dice(moved >= 1, look((label >= 1).float(), replace(view, bend_mm=None), nearest=True) > 0.5) < 0.999


def test_a_bend_never_folds_whatever_the_draw() -> None:
    nodes = torch.ones(2, 5, 5)
    nodes[:, ::2] *= -1
    nodes[..., ::2] *= -1
    view = View((64, 64), spacing_mm=(2.0, 2.0), scale=(1.26, 1.26), bend_mm=nodes * VIEWS.bend_share * 32.0)
    v, u = sampling_points(view, (64, 64))[0].unbind(-1)
    du, dv = (torch.stack(torch.gradient(p)) for p in (u, v))
    assert float((du[0] * dv[1] - du[1] * dv[0]).min()) > 0


def test_a_bend_shifts_by_a_few_millimetres_on_any_grid() -> None:
    for n, step in ((32, 4.0), (128, 1.0), (12, 2.0)):
        size, spacing = (n, n), (step, step)
        bent = View(size, spacing_mm=spacing, bend_mm=draw_bend(stream(0, "bend"), size, spacing, 1.0))
        points = (sampling_points(v, size) for v in (bent, View(size, spacing_mm=spacing)))
        shift = torch.sub(*points).abs().max() * n / 2 * step
        assert 0.5 < float(shift) < 5.5


def test_strength_zero_is_the_identity() -> None:
    item = frame()
    seen = augment(item, GRID, SPACING, stream(0, "x"), 0.0)
    torch.testing.assert_close(seen["image"], item["image"], atol=1e-5, rtol=0)
    assert torch.equal(seen["label"], item["label"].float())
    assert all(torch.equal(seen[name], item[name]) for name in ("coverage", "slice_mask"))
    image = torch.rand(1, 8, 8, 2)
    plain = draw_appearance(stream(0, "x"), (16.0, 16.0), 0.0)
    assert torch.equal(degrade(image, plain, (2.0, 2.0), stream(0, "y")), image)


def test_a_view_is_a_function_of_its_address() -> None:
    seen = [augment(frame(), GRID, SPACING, stream(0, "frames", 3, case), 1.0) for case in (1, 1, 2)]
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])
    assert not torch.equal(seen[0]["image"], seen[2]["image"])


def test_a_view_is_the_same_in_millimetres_on_a_finer_grid() -> None:
    """Twice the voxels of half the size see the same heart: equal areas in mm2."""
    for index in range(3):
        areas = []
        for n, step in ((64, 2.0), (128, 1.0)):
            view = draw_copy(stream(0, "copy", index), (n, n), (step, step))
            moved = look(disc((n, n, 1), step).float(), view, nearest=True) >= 1
            x = torch.arange(n, dtype=torch.float32).reshape(1, n, 1, 1) * step
            areas.append((float(moved.sum()) * step * step, float((x * moved).sum() / moved.sum() + step / 2)))
        assert areas[0][0] == pytest.approx(areas[1][0], rel=0.02)
        assert areas[0][1] == pytest.approx(areas[1][1], abs=0.5)


def test_pixels_need_not_be_square() -> None:
    """A turned heart keeps its area where rows and columns have other distances."""
    label = disc((64, 64, 1))
    squeezed = label[:, ::2]
    turned = look(squeezed.float(), View((32, 64), rotation=0.6, spacing_mm=(4.0, 2.0)), nearest=True)
    assert float((turned >= 1).sum()) == pytest.approx(float((squeezed >= 1).sum()), rel=0.03)
    rows, columns = (4.0 * float((turned >= 1).any(dim=2).sum()), 2.0 * float((turned >= 1).any(dim=1).sum()))
    assert rows == pytest.approx(columns, abs=6.0)  # still round


def test_a_bias_field_is_smooth_and_keeps_the_mean() -> None:
    nodes = (2 * torch.rand(2, 3, 3, generator=stream(0, "bias")) - 1) * APPEARANCES.max_bias
    size = (64, 48, 6)
    factor = bias_field(nodes, size)
    assert factor.shape == size
    assert float(factor.mean()) == pytest.approx(1.0, abs=1e-5)
    assert 1.05 < float(factor.max() / factor.min()) < 2.5
    assert float(factor.diff(dim=0).abs().max()) < 0.05
    image = torch.full((1, *size), -0.4)  # dark enough to stay below white
    biased = recolour(image, Appearance(bias=nodes))
    assert float(((biased + 1) / (image + 1)).mean()) == pytest.approx(1.0, abs=1e-4)


def test_a_coarser_scanner_has_nothing_above_its_nyquist_frequency() -> None:
    image = torch.rand(1, 128, 128, 2, generator=stream(0, "noise")) - 0.5
    coarse = coarsen(image, 2.0, (1.0, 1.0))
    power = [torch.fft.fft2(i[0].movedim(-1, 0)).abs().square().mean(dim=0) for i in (image, coarse)]
    frequency = torch.fft.fftfreq(128).abs()  # cycles a millimetre
    above = torch.maximum(frequency[:, None], frequency[None]) > 0.27
    assert float(power[1][above].sum() / power[0][above].sum()) < 0.03
    below = torch.maximum(frequency[:, None], frequency[None]) < 0.1
    assert float(power[1][below].sum() / power[0][below].sum()) > 0.8
    assert torch.equal(coarsen(image, 1.9, (2.0, 2.0)), image)  # the grid is the coarser one


def test_blur_keeps_the_mean_lowers_the_contrast_and_is_in_millimetres() -> None:
    image = torch.rand(1, 24, 24, 3, generator=stream(0, "image")) - 0.5
    blurred = gaussian_blur(image, 2.0, (2.0, 2.0))
    assert blurred.shape == image.shape
    assert float(blurred.std()) < 0.5 * float(image.std())
    assert float(blurred.mean()) == pytest.approx(float(image.mean()), abs=0.02)
    assert torch.equal(blurred, gaussian_blur(image, 1.0, (1.0, 1.0)))
    assert torch.equal(gaussian_blur(image, 0.0, (2.0, 2.0)), image)


def test_most_images_stay_sharp() -> None:
    drawn = [draw_appearance(stream(0, "look", index), (128.0, 128.0), 1.0) for index in range(400)]
    for name in ("blur_mm", "pixel_mm", "noise"):
        assert 0.05 < sum(getattr(a, name) > 0 for a in drawn) / len(drawn) < 0.15
    untouched = sum(a.blur_mm == a.pixel_mm == a.noise == 0 for a in drawn) / len(drawn)
    assert untouched == pytest.approx(0.73, abs=0.07)


def test_a_shorter_stack_is_cut_at_its_ends_and_says_so() -> None:
    item = frame()
    item["coverage"][:, 0] = False
    cut = cut_stack(item, 1, 2)
    assert cut["slice_mask"].tolist() == [False, False, True, True, False, False]
    assert not cut["label"][..., ~cut["slice_mask"]].any()
    assert torch.equal(cut["label"][..., 2:4], item["label"][..., 2:4])
    assert cut["coverage"].tolist() == [[False, True, True]] * 6  # nobody labelled the RV, cut or not
    assert item["slice_mask"].sum() == 5  # what came in is as it was
    cuts = [draw_cut(stream(0, "cut", i), 8, 10.0, 1.0) for i in range(300)]
    assert {a for a, _ in cuts} == {b for _, b in cuts} == {0, 1, 2}
    assert 0.7 < sum(c == (0, 0) for c in cuts) / 300 < 0.95
    assert all(sum(draw_cut(stream(0, "cut", i), 3, 10.0, 1.0)) <= 1 for i in range(100))
    assert all(draw_cut(stream(0, "cut", i), 8, 10.0, 0.0) == (0, 0) for i in range(100))
