"""What extractors measure: known shapes, known greys, known frequencies, the same numbers everywhere."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cinesynth.errors import WeightsError
from cinesynth.evaluation import networks, radiomic
from cinesynth.evaluation.cases import Case, CaseSet
from cinesynth.evaluation.codec import LatentExtractor
from cinesynth.evaluation.contours import measure_edges, measure_wall
from cinesynth.evaluation.measure import measure, thumbnails_of
from cinesynth.evaluation.networks import I3D, VideoExtractor, clip_of, evenly
from cinesynth.evaluation.radiomic import BANDS, NAMES, SHAPE, STATISTICS, frame_features, histogram, spectrum
from cinesynth.types import Label
from cinesynth.weights.registry import find_bundle
from tests.evaluation.planted import blurred, noisy

SPACING = (1.0, 1.0, 2.0)


def ball(radius_mm: float) -> np.ndarray:
    x, y, z = np.ogrid[-30:31, -30:31, -30:31:2]
    return x**2 + y**2 + z**2 <= radius_mm**2


# --- shape and grey values -------------------------------------------------------------------------------------------


def test_a_ball_is_a_ball() -> None:
    found = dict(zip(SHAPE, radiomic.shape_of(ball(20), SPACING), strict=True))
    assert found["volume_ml"] == pytest.approx(4 / 3 * np.pi * 20**3 / 1000, rel=0.02)
    assert 0.85 < found["sphericity"] <= 1.0  # a surface of voxels has steps
    assert found["elongation"] == pytest.approx(1.0, abs=0.02)
    assert found["flatness"] == pytest.approx(1.0, abs=0.02)
    assert found["middle_cm2"] == pytest.approx(np.pi * 4, rel=0.03)
    assert found["roundness"] == pytest.approx(1.0, abs=0.1)


def test_a_long_box_is_long() -> None:
    box = np.zeros((40, 40, 20), dtype=bool)
    box[10:30, 15:25, 8:13] = True  # 20 x 10 x 10 mm
    found = dict(zip(SHAPE, radiomic.shape_of(box, SPACING), strict=True))
    assert (found["elongation"], found["flatness"]) == pytest.approx((0.5, 0.5), abs=1e-6)
    assert found["volume_ml"] == 2.0
    assert not radiomic.shape_of(np.zeros_like(box), SPACING).any()


def test_the_wall_of_a_tube() -> None:
    x, y = np.ogrid[-30:31, -30:31]
    away = np.hypot(x, y)
    label = np.where(away <= 15, Label.LV, np.where(away <= 24, Label.MYO, 0)).astype(np.uint8)
    mean, sd, low, high = radiomic.wall_of(np.repeat(label[..., None], 3, axis=2), SPACING)
    assert mean == pytest.approx(9.0, abs=0.5)
    assert sd < 0.5
    assert low < mean < high


def test_first_order_of_known_values() -> None:
    values = np.random.default_rng(0).exponential(size=200_000).astype(np.float32)
    found = dict(zip(STATISTICS, radiomic.first_order(values), strict=True))
    assert found == pytest.approx(
        {"mean": 1, "sd": 1, "skewness": 2, "kurtosis": 6, "p10": 0.105, "p50": 0.693, "p90": 2.303}, rel=0.1
    )
    assert not radiomic.first_order(np.zeros(0, dtype=np.float32)).any()


def test_radiomic_features_of_a_heart(train: CaseSet) -> None:
    case = train[0]
    found = dict(zip(NAMES, frame_features(case, case.ed), strict=True))
    assert found["LV_volume_ml"] == pytest.approx(float(case.volumes_ml(Label.LV)[case.ed]), rel=1e-5)
    assert found["blood_myocardium"] == pytest.approx(found["LV_mean"] - found["MYO_mean"], abs=1e-5)
    assert found["blood_myocardium"] > 0.2  # bSSFP: blood is bright
    assert 5 < found["wall_mean_mm"] < 16
    rougher = dict(zip(NAMES, frame_features(noisy(case), case.ed), strict=True))
    softer = dict(zip(NAMES, frame_features(blurred(case), case.ed), strict=True))
    for name in ("texture_contrast_1px", "edge"):
        assert softer[name] < found[name] < rougher[name]


def test_what_was_not_annotated_has_no_features_and_what_is_not_there_has_those_of_nothing(train: CaseSet) -> None:
    case = train[0]
    blind = replace(case, coverage=case.coverage & (np.arange(len(case.coverage)) != case.es)[:, None, None])
    ed, es = radiomic.RADIOMIC.measure(blind)["frames"]
    assert np.isfinite(ed).all()
    assert np.isnan(es).all()
    without = replace(case, label=np.where(case.label == Label.RV, 0, case.label).astype(np.uint8))
    found = dict(zip(NAMES, frame_features(without, case.ed), strict=True))
    assert found["RV_volume_ml"] == 0
    assert found["LV_volume_ml"] > 0


def test_a_wider_field_changes_no_feature_of_the_heart(train: CaseSet) -> None:
    case, margin = train[0], ((0, 0), (7, 7), (5, 5), (0, 0))
    wider = replace(case, image=np.pad(case.image, margin, "edge"), label=np.pad(case.label, margin))
    np.testing.assert_allclose(frame_features(wider, case.ed), frame_features(case, case.ed), rtol=1e-6)
    for measured in (measure_edges, measure_wall):
        for name, value in measured(case).items():
            np.testing.assert_allclose(measured(wider)[name], value, rtol=1e-5)


def test_a_wave_has_its_energy_in_its_band() -> None:
    x = np.arange(64)
    plane = np.repeat(np.sin(2 * np.pi * 0.25 * x)[:, None], 64, axis=1).astype(np.float32)  # half of Nyquist
    assert spectrum(plane).argmax() == BANDS // 2
    assert histogram(np.array([[0, 3], [4, 255]], dtype=np.uint8))[[0, 1, -1]].tolist() == [0.5, 0.25, 0.25]


def test_a_cycle_at_even_times_closes() -> None:
    wave = np.cos(2 * np.pi * np.arange(12) / 12).astype(np.float32)[:, None]
    np.testing.assert_array_equal(evenly(wave, 12), wave)
    np.testing.assert_allclose(evenly(wave, 24)[23], (wave[11] + wave[0]) / 2, atol=1e-6)


def test_a_thumbnail_does_not_depend_on_where_the_heart_lies(train: CaseSet) -> None:
    case = train[0]
    moved = replace(case, image=np.roll(case.image, (1, 2), (1, 2)), label=np.roll(case.label, (1, 2), (1, 2)))
    one, two = thumbnails_of(case), thumbnails_of(moved)
    np.testing.assert_array_equal(one["mask"], two["mask"])
    assert np.abs(one["image"] - two["image"])[:, 5:-5, 5:-5].max() <= 1


# --- networks --------------------------------------------------------------------------------------------------------


def test_the_random_network_is_the_same_everywhere() -> None:
    digest = hashlib.sha256(b"".join(w.tobytes() for w in networks.random_weights())).hexdigest()
    assert digest == "c40101b178983053a718c6c0374b8e33b91a6e28c7467fe3a99ea93235abf40f"
    for kernel in networks.random_weights():
        assert kernel.var() == pytest.approx(2 / kernel[0].size, rel=0.15)


def test_a_cycle_has_the_same_features_whichever_frame_comes_first(train: CaseSet) -> None:
    case = train[0]
    turned = replace(case, image=np.roll(case.image, 3, axis=0))
    one, two = (networks.RANDCONV3D.measure(c)["cycle"] for c in (case, turned))
    np.testing.assert_allclose(one, two, rtol=2e-4, atol=1e-5)
    assert np.isnan(networks.RANDCONV3D.measure(replace(case, whole_cycle=False))["cycle"]).all()


def test_forked_workers_use_networks_after_their_parent_did(train: CaseSet) -> None:
    """A worker that waits for threads of its parent would hang here for ever."""
    torch.nn.functional.conv3d(torch.zeros(2, 8, 16, 64, 64), torch.zeros(8, 8, 3, 3, 3))
    few = replace(train, names=train.names[:3])
    one, two = (measure(few, [networks.RANDCONV3D], workers=n) for n in (1, 2))
    for name, values in one.values.items():
        np.testing.assert_allclose(values, two[name], rtol=1e-5)


def test_a_codec_for_another_grid_says_so(train: CaseSet) -> None:
    latent = LatentExtractor.of(find_bundle("small"))
    assert "64 x 64 voxels of 3 x 3 x 10 mm, the codec" in latent.misfit(train.grid)
    found = latent.measurer().measure(train[0])
    assert all(np.isnan(values).all() for values in found.values())


def test_the_codec_sees_a_moved_heart_in_its_place(train: CaseSet) -> None:
    latent = LatentExtractor.of(find_bundle("small"))
    assert latent.misfit(latent.grid) == ""
    small = train[0]
    wide = ((0, 0), (16, 16), (16, 16), (0, 0))
    case = replace(small, image=np.pad(small.image, wide), label=np.pad(small.label, wide), spacing_mm=(2.0, 2.0, 10.0))
    moved = replace(case, image=np.roll(case.image, (2, -2), (1, 2)), label=np.roll(case.label, (2, -2), (1, 2)))
    one, two = (latent.measurer().measure(c) for c in (case, moved))
    assert one["frames"].shape == (2, 2 * latent.channels)
    np.testing.assert_allclose(one["places"], two["places"], atol=1e-5)


# --- I3D -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def i3d_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights under the names of the port."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("i3d") / "i3d.safetensors"
    save_file(I3D().state_dict(), path)
    return path


def test_i3d_takes_weights_under_their_usual_names(i3d_weights: Path, train: CaseSet) -> None:
    video = VideoExtractor.of(i3d_weights)
    assert video.sha256 == hashlib.sha256(i3d_weights.read_bytes()).hexdigest()
    case: Case = train[0]
    assert clip_of(case).shape == (1, 3, 16, 224, 224)
    logits = video.measurer().measure(case)["cycle"]
    assert logits.shape == (400,)
    assert np.isfinite(logits).all()
    assert logits.std() > 0
    assert np.isnan(video.measurer().measure(replace(case, whole_cycle=False))["cycle"]).all()


def test_i3d_has_the_parameters_of_the_publication() -> None:
    names = set(I3D().state_dict())
    assert {"Conv3d_1a_7x7.conv3d.weight", "Mixed_4f.b2b.bn.running_var", "logits.conv3d.bias"} <= names
    assert sum(p.numel() for p in I3D().parameters()) == 12_697_264  # the "12 M" of RGB-I3D, with its 400 classes


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda p: p.unlink(), "is missing"),
        (lambda p: p.write_bytes(p.read_bytes()[:5000]), "not a complete safetensors file"),
        (lambda p: p.write_bytes(b"PK\x03\x04 a pickle"), "not a complete safetensors file"),
        (lambda p: save_file({"fc.weight": torch.zeros(2, 2)}, p), "lacks Conv3d_1a_7x7.bn.bias"),
        (lambda p: save_file({**I3D().state_dict(), "x": torch.zeros(1)}, p), "the unknown tensor x"),
        (
            lambda p: save_file({**I3D().state_dict(), "logits.conv3d.bias": torch.zeros(157)}, p),
            "another shape for logits.conv3d.bias",
        ),
    ],
)
def test_other_weights_are_refused(i3d_weights: Path, tmp_path: Path, damage, found: str) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(i3d_weights.read_bytes())
    damage(path)
    with pytest.raises(WeightsError, match=found) as error:
        VideoExtractor.of(path)
    assert error.value.hint
