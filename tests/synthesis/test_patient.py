"""From a real image: masks on its own voxels, its heart in motion, and what is no short-axis image refused."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from cinesynth.cases.reading import is_case
from cinesynth.data.geometry import Placement
from cinesynth.data.normalisation import IntensityScale
from cinesynth.errors import DataError, InputError
from cinesynth.io.files import file_sha256
from cinesynth.models.codec import Codec
from cinesynth.synthesis.animate import AnimationRequest, animate
from cinesynth.synthesis.annotate import annotate, locate, segment
from cinesynth.synthesis.patient import Annotation, read_patient, save_animation, save_annotation
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.types import Cine, ClinicalPrior, Diagnosis, Label, Study
from cinesynth.weights.folder import Bundle
from cinesynth.weights.registry import find_bundle, shipped_bundles
from tests.conftest import Run
from tests.data.nifti_files import SCANNER, change_header, phantom, save, scanner_affine

pytestmark = pytest.mark.skipif("small" not in shipped_bundles(), reason="no weights are shipped in this checkout")


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def stored(path: Path) -> np.ndarray:
    """Voxels of a file, ``T X Y Z`` where it has time."""
    data = np.asarray(nib.load(path).dataobj)
    return np.moveaxis(data, -1, 0) if data.ndim == 4 else data


@pytest.fixture(scope="module")
def small() -> CinePipeline:
    return CinePipeline.from_pretrained("small", device="cpu")


@pytest.fixture(scope="module")
def heart() -> Study:
    """Labelled in every frame; its affine lies along the axes of the scanner and says nothing of the base."""
    return phantom(0)


@pytest.fixture(scope="module")
def cine_file(heart: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("patient") / "cine.nii.gz", heart.image, heart.affine)


@pytest.fixture(scope="module")
def ed_file(heart: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("patient") / "ed.nii.gz", heart.image[0], heart.affine)


@pytest.fixture(scope="module")
def annotated(small: CinePipeline, cine_file: Path) -> Annotation:
    return annotate(small.bundle, read_patient(cine_file))


def wanted(ef_percent: float | None = None, variation: float = 0.0, **settings: Any) -> AnimationRequest:
    settings = {"frames": 5, "max_attempts": 1, **settings}
    return AnimationRequest(
        Request(ClinicalPrior(settings.pop("diagnosis", Diagnosis.UNKNOWN)), **settings), ef_percent, variation
    )


@pytest.fixture(scope="module")
def moved(small: CinePipeline, ed_file: Path) -> Cine:
    return animate(small, read_patient(ed_file), wanted(50.0))


# --- masks of every frame -----------------------------------------------------------------------------------------


def test_masks_of_every_frame_are_those_of_the_heart(annotated: Annotation, heart: Study) -> None:
    for structure, least in ((Label.LV, 0.9), (Label.MYO, 0.85), (Label.RV, 0.85)):
        assert dice(annotated.label == structure, heart.label == structure) > least, structure
    assert annotated.ed_es is not None
    assert annotated.ed_es[0] in (0, 5)
    assert abs(annotated.ed_es[1] - heart.es_index) <= 1


def variants(heart: Study) -> dict[str, tuple[np.ndarray, np.ndarray, str]]:
    """Image, affine and slice order of one heart in other voxel orders; the last three name the base by the header."""
    spacing, oblique = heart.spacing_mm, scanner_affine(heart.spacing_mm)
    size = np.array(heart.image.shape[1:])
    back = np.diag([1.0, 1.0, -1.0, 1.0])
    back[2, 3] = size[2] - 1
    turned = scanner_affine((spacing[1], spacing[0], spacing[2]), SCANNER[[1, 0, 2]])
    return {
        "reversed slices": (heart.image[..., ::-1], heart.affine @ back, "apex_first"),
        "oblique": (heart.image, oblique, "auto"),
        "oblique, reversed slices": (heart.image[..., ::-1], oblique @ back, "auto"),
        "rows for columns": (heart.image.swapaxes(1, 2), turned, "auto"),
    }


@pytest.mark.parametrize("name", ["reversed slices", "oblique", "oblique, reversed slices", "rows for columns"])
def test_masks_lie_on_the_voxels_of_the_file(
    name: str, heart: Study, annotated: Annotation, small: CinePipeline, tmp_path: Path
) -> None:
    """One heart in other voxel orders has the same masks, in that order, under the very affine of the file."""
    image, affine, order = variants(heart)[name]
    path = save(tmp_path / "in.nii.gz", image, affine)
    found = annotate(small.bundle, read_patient(path, order))  # type: ignore[arg-type]
    save_annotation(found, tmp_path / "out", pictures=False)
    source, label = nib.load(path), nib.load(tmp_path / "out" / "label.nii.gz")
    assert label.shape == source.shape
    assert np.array_equal(label.affine, source.affine)
    assert label.header["sform_code"] == source.header["sform_code"]
    assert label.header.get_zooms() == source.header.get_zooms()
    mine = stored(tmp_path / "out" / "label.nii.gz")
    expected, _, _ = variants(replace(heart, image=annotated.label))[name]
    assert np.array_equal(mine, expected)


def test_what_lies_apart_from_the_heart_is_left_out(annotated: Annotation, small: CinePipeline) -> None:
    study = annotated.patient.study
    placement = locate(small.bundle.codec, study)
    whole = placement.label_to_native(segment(small.bundle.codec, study, placement))
    for mine, all_of_it in zip(annotated.label, whole, strict=True):
        _, count = ndimage.label(mine, np.ones((3, 3, 3)))
        assert count == 1
        assert np.array_equal(mine[mine > 0], all_of_it[mine > 0])


def test_one_frame_has_masks_and_no_beat(small: CinePipeline, ed_file: Path, tmp_path: Path) -> None:
    record = save_annotation(annotate(small.bundle, read_patient(ed_file)), tmp_path / "out")
    assert stored(tmp_path / "out" / "label.nii.gz").shape == nib.load(ed_file).shape
    assert (record["ed_index"], record["lv_edv_ml"], record["ef_percent"]) == (None, None, None)
    assert len(record["volumes_ml"]["LV"]) == 1
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"annotation.json", "label.nii.gz", "sheet.png"}


def test_the_record_says_whose_guess_it_is(annotated: Annotation, cine_file: Path, tmp_path: Path) -> None:
    record = save_annotation(annotated, tmp_path / "out")
    assert record == json.loads((tmp_path / "out" / "annotation.json").read_text())
    assert "synthetic" not in record
    assert "predicted by a model" in record["notice"]
    assert "not for clinical use" in record["notice"]
    assert record["source"]["sha256"] == file_sha256(cine_file)
    assert cine_file.name not in json.dumps(record)
    curve = record["volumes_ml"]["LV"]
    assert (curve[record["ed_index"]], curve[record["es_index"]]) == (max(curve), min(curve))
    assert record["ef_percent"] == pytest.approx(100 * (1 - min(curve) / max(curve)), abs=1e-2)
    voxel_ml = math.prod(nib.load(cine_file).header.get_zooms()[:3]) / 1000
    counted = (stored(tmp_path / "out" / "label.nii.gz") == Label.LV).sum(axis=(1, 2, 3)) * voxel_ml
    assert curve == pytest.approx(counted, rel=1e-3)
    assert record["provenance"]["weights"]["sha256"]
    assert not is_case(tmp_path / "out")


def test_slices_that_look_upside_down_are_said_to(small: CinePipeline, heart: Study, tmp_path: Path) -> None:
    path = save(tmp_path / "in.nii.gz", heart.image[0, ..., ::-1], heart.affine)
    assert annotate(small.bundle, read_patient(path)).order_in_doubt
    assert not annotate(small.bundle, read_patient(path, "apex_first")).order_in_doubt


# --- a heart in motion --------------------------------------------------------------------------------------------


def test_frame_0_has_the_mask_that_the_codec_sees(
    moved: Cine, small: CinePipeline, ed_file: Path, heart: Study
) -> None:
    seen = annotate(small.bundle, read_patient(ed_file)).label[0]
    assert np.array_equal(moved.label[0], seen)
    assert moved.prior.slices == heart.image.shape[3]
    assert moved.provenance["acceptance"]["anatomy"]["volume_matching"] is None  # type: ignore[index]


@torch.inference_mode()
def likeliest(codec: Codec, study: Study, placement: Placement, structure: Label) -> int:
    """Voxels of the first frame in which the decoder of masks finds a structure likeliest."""
    image = torch.from_numpy(IntensityScale.of(study.image).apply(placement.image_to_grid(study.image))[:1, None])
    slices = torch.from_numpy(placement.slice_mask)[None]
    return int((codec.decode(codec.encode(image, slices), slices).logits.argmax(dim=1) == structure).sum())


def test_a_second_heart_in_the_chest_is_no_part_of_the_edv(small: CinePipeline, heart: Study, tmp_path: Path) -> None:
    """As the stomach of a patient was taken for one: here a copy of the LV and its wall, 72 mm beside it."""
    image = heart.image[0].copy()
    x, y, _ = (round(c) for c in ndimage.center_of_mass(heart.label[0] == Label.LV))
    image[x - 6 : x + 7, y + 18 : y + 31, 3:5] = heart.image[0, x - 6 : x + 7, y - 6 : y + 7, 3:5]
    patient = read_patient(save(tmp_path / "two.nii.gz", image, heart.affine))
    placement = locate(small.bundle.codec, patient.study)
    assert np.hypot(*np.subtract(placement.offset, locate(small.bundle.codec, heart).offset)) < 3
    (mask,) = segment(small.bundle.codec, patient.study, placement)
    assert likeliest(small.bundle.codec, patient.study, placement, Label.LV) - (mask == Label.LV).sum() > 100
    cine = animate(small, patient, wanted(50.0, frames=3, es_index=1))
    assert cine.prior.lv_edv_ml == pytest.approx((mask == Label.LV).sum() * placement.grid.voxel_ml, abs=1e-3)
    assert not (cine.label[:, x - 6 : x + 7, y + 18 : y + 31, 3:5] == Label.LV).any()
    edv_ml, esv_ml = (float(cine.volumes_ml(Label.LV)[frame]) for frame in (0, 1))
    assert esv_ml / edv_ml == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("ef_percent", [35.0, 60.0])
def test_the_asked_esv_is_reached_on_the_masks(small: CinePipeline, ed_file: Path, ef_percent: float) -> None:
    cine = animate(small, read_patient(ed_file), wanted(ef_percent, frames=4, es_index=2))
    edv_ml, esv_ml = (float(cine.volumes_ml(Label.LV)[frame]) for frame in (0, 2))
    assert cine.prior.lv_esv_ml == pytest.approx(cine.prior.lv_edv_ml * (1 - ef_percent / 100))
    assert edv_ml == pytest.approx(cine.prior.lv_edv_ml, rel=0.03)
    assert esv_ml == pytest.approx(cine.prior.lv_esv_ml, rel=0.06)


def test_outside_the_network_s_field_the_image_stands_still(
    small: CinePipeline, heart: Study, moved: Cine, ed_file: Path
) -> None:
    """The field of the phantom is 240 mm wide, that of the grid 192."""
    real = heart.image[0].astype(np.float32)
    still = (moved.image == real).all(axis=0)
    assert 0.2 < still.mean() < 0.6
    assert not still[moved.label.any(axis=0)].any()
    edge = np.ones(real.shape[:2], dtype=bool)
    edge[3:-3, 3:-3] = False
    assert still[edge].mean() > 0.5
    assert np.ptp(moved.image, axis=0)[~still].mean() > 1.0
    assert moved.image.min() >= real.min() - 1e-3
    record = moved.provenance["frame_0"]
    assert record["psnr_db"] > 22.0  # type: ignore[index]


def test_files_are_the_patient_s_own_voxels_and_say_what_they_are(
    moved: Cine, ed_file: Path, tmp_path: Path, small: CinePipeline
) -> None:
    patient = read_patient(ed_file)
    record = save_animation(moved, patient, tmp_path / "out")
    source = nib.load(ed_file)
    for name in ("image", "label"):
        file = nib.load(tmp_path / "out" / f"{name}.nii.gz")
        assert file.shape == (*source.shape, 5)
        assert np.array_equal(file.affine, source.affine)
        assert float(file.header.get_zooms()[3]) == pytest.approx(moved.frame_time_ms, rel=1e-5)
        assert file.header.get_xyzt_units() == ("mm", "msec")
        assert b"synthetic motion" in file.header["descrip"].item()
    assert nib.load(tmp_path / "out" / "image.nii.gz").get_data_dtype() == source.get_data_dtype()
    assert np.array_equal(stored(tmp_path / "out" / "label.nii.gz"), moved.label)
    assert record["synthetic"] is True
    assert "personal data" in record["notice"]
    assert record["derived_from"]["sha256"] == file_sha256(ed_file)
    assert record["requested"]["ef_percent"] == pytest.approx(50.0)
    assert record["provenance"]["lv_edv_from"] == "segmentation of the image"
    assert not is_case(tmp_path / "out")  # nobody takes it for a heart of nobody
    again = animate(small, patient, wanted(50.0))
    assert np.array_equal(again.image, moved.image)


def test_a_frame_of_a_cine_is_the_same_heart_and_keeps_its_beat(
    small: CinePipeline, heart: Study, tmp_path: Path
) -> None:
    path = save(tmp_path / "cine.nii.gz", np.roll(heart.image, 2, axis=0), heart.affine, 0.14)
    cine = animate(small, read_patient(path), replace(wanted(50.0), frame=2))
    assert cine.frame_time_ms == pytest.approx(6 * 140.0 / 5, rel=1e-3)
    assert dice(cine.label[0] == Label.LV, heart.label[0] == Label.LV) > 0.9


# --- variations ---------------------------------------------------------------------------------------------------


def test_a_variation_is_exact_at_0_plain_at_1_and_farther_with_strength(small: CinePipeline, moved: Cine) -> None:
    plan = small.plan(Request(ClinicalPrior(lv_edv_ml=150.0, slices=8), seed=5, steps=8, match_volumes=False))
    given = small.sampler.anatomy(small.plan(replace(plan.request, seed=9)), 0).latent
    drawn = [
        small.sampler.anatomy(plan, 0, start=given, variation=strength).latent
        for strength in (0.0, 0.1, 0.3, 0.6, 0.9, 1.0)
    ]
    distances = [float((latent - given).square().mean().sqrt()) for latent in drawn]
    assert distances[0] == 0.0
    assert distances == sorted(distances)
    assert distances[1] > 0.0
    assert np.array_equal(drawn[-1].numpy(), small.sampler.anatomy(plan, 0).latent.numpy())


def test_variations_of_a_patient_differ_by_seed_and_keep_the_edv(small: CinePipeline, ed_file: Path) -> None:
    patient = read_patient(ed_file)
    one, other = (animate(small, patient, wanted(50.0, 0.5, frames=3, seed=seed)) for seed in (1, 2))
    assert not np.array_equal(one.label[0], other.label[0])
    for cine in (one, other):
        assert float(cine.volumes_ml(Label.LV)[0]) == pytest.approx(cine.prior.lv_edv_ml, rel=0.06)
        assert cine.provenance["derived_from"]["variation"] == 0.5  # type: ignore[index]


# --- what is refused ----------------------------------------------------------------------------------------------


def bad_files(heart: Study, folder: Path) -> dict[str, tuple[Path, str]]:
    """Files that are no short-axis image of a heart, and what is said of each."""
    image, affine = heart.image[0].astype(np.float32), heart.affine
    deep = np.repeat(image, 2, axis=-1)
    hole, endless = image.copy(), image.copy()
    hole[3, 3, 3], endless[3, 3, 3] = np.nan, np.inf
    long_axis = scanner_affine(heart.spacing_mm, SCANNER[[2, 0, 1]])
    noise = np.random.default_rng(0).integers(0, 50, image.shape).astype(np.float32)
    (folder / "note.nii.gz").write_text("no image")
    (folder / "picture.png").write_text("no image")
    flat = save(folder / "flat.nii.gz", image, affine)
    change_header(flat, pixdim=[1, 0, 0, 0, 0, 0, 0, 0])
    return {
        "absent": (folder / "none.nii.gz", "does not exist or is not a file"),
        "a folder": (folder, "does not end in .nii"),
        "another kind": (folder / "picture.png", "does not end in .nii"),
        "no NIfTI inside": (folder / "note.nii.gz", "cannot be read"),
        "two dimensions": (save(folder / "2d.nii.gz", image[..., 0], affine), "has 2 dimensions"),
        "five dimensions": (save(folder / "5d.nii.gz", image[..., None, None].repeat(2, 4), affine), "5 dimensions"),
        "NaN": (save(folder / "nan.nii.gz", hole, affine), "values that are not finite"),
        "infinity": (save(folder / "inf.nii.gz", endless, affine), "values that are not finite"),
        "constant": (save(folder / "seven.nii.gz", np.full_like(image, 7), affine), "the value 7 nearly everywhere"),
        "no spacing": (flat, "has voxels of 0 x 0 x 0 mm"),
        "wrong spacing": (
            save(folder / "cm.nii.gz", image, np.diag([0.15, 0.15, 1.0, 1.0])),
            "0.3-5 mm in the plane and slices of 1-30 mm",
        ),
        "long axis": (
            save(folder / "long.nii.gz", image, long_axis),
            "is not a short-axis stack according to its header",
        ),
        "too deep": (save(folder / "deep.nii.gz", deep, affine), "and the grid of the weights holds 12"),
        "one slice over time": (
            save(folder / "time.nii.gz", np.stack([image[..., 4]] * 12, axis=-1), affine),
            "as frames do",
        ),
        "no heart": (save(folder / "noise.nii.gz", noise, affine), "expected at least 15 mL"),
    }


def test_what_is_no_short_axis_image_is_refused(small: CinePipeline, heart: Study, tmp_path: Path) -> None:
    for name, (path, said) in bad_files(heart, tmp_path).items():
        for make in (lambda p: annotate(small.bundle, p), lambda p: animate(small, p, wanted(50.0))):
            with pytest.raises(DataError) as error:
                make(read_patient(path))
            assert said in str(error.value), name
            assert error.value.hint, name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ef", 120], "EF 120 % is outside 3-95"),
        (["--ef", 40, "--esv", 60], "an ESV and an EF were both given"),
        (["--esv", 0.2], "ESV 0.2 mL is outside"),
        (["--esv", 400], "does not fit EDV"),
        (["--variation", 1.5], "variation 1.5 is outside 0-1"),
        (["--frame", 1], "frame 1 is outside 0-0"),
        (["--frames", 1], "1 frames are outside 2-200"),
        (["--diagnosis", "flu"], "diagnosis 'flu' is not known"),
        (["--vendor", "Siemens"], "not trained with vendor"),
    ],
)
def test_wishes_that_no_heart_can_meet_are_refused(
    run: Run, ed_file: Path, tmp_path: Path, words: list[object], said: str
) -> None:
    code, _, err = run("animate", ed_file, "--out", tmp_path / "out", "--weights", "small", *words)
    assert code == 2
    assert said in " ".join(err.split())
    assert "hint:" in err
    assert list(tmp_path.iterdir()) == []


def test_a_cine_needs_its_ed_named(run: Run, cine_file: Path, tmp_path: Path) -> None:
    code, _, err = run("animate", cine_file, "--out", tmp_path / "out")
    assert (code, "--frame 0 to 5" in " ".join(err.split())) == (2, True)
    with pytest.raises(InputError, match="EDV, slices or the anatomy were requested, expected none of them"):
        AnimationRequest(Request(ClinicalPrior(lv_edv_ml=150.0)))


def test_the_commands_write_all_or_nothing(run: Run, ed_file: Path, tmp_path: Path) -> None:
    quick = ("--weights", "small", "--no-pictures")
    masks, motion = tmp_path / "masks", tmp_path / "motion"
    assert run("annotate", ed_file, "--out", masks, *quick)[0] == 0
    assert run("animate", ed_file, "--out", motion, *quick, "--frames", 3, "--max-attempts", 1)[0] == 0
    assert {p.name for p in motion.iterdir()} == {"animation.json", "image.nii.gz", "label.nii.gz"}
    code, _, err = run("annotate", ed_file, "--out", masks, *quick)
    assert (code, "is not empty" in " ".join(err.split())) == (5, True)
    assert run("annotate", ed_file, "--out", masks, *quick, "--overwrite")[0] == 0
    code, _, err = run("annotate", ed_file, "--out", motion, *quick, "--overwrite")  # another command's work
    assert (code, "is not empty" in " ".join(err.split())) == (5, True)
    code, _, err = run("generate", "--keep-anatomy", motion, "--out", tmp_path / "x", "--weights", "small")
    assert (code, "holds no generated case" in " ".join(err.split())) == (2, True)
    assert {p.name for p in tmp_path.iterdir()} == {"masks", "motion"}


# --- real data ----------------------------------------------------------------------------------------------------


def test_masks_of_a_real_cycle(cine_data: Path, tmp_path: Path) -> None:
    """Pat05 of Najman, against the masks of an automatic method at every frame."""
    folder = cine_data / "najman4d" / "Pat05"
    found = annotate(Bundle.load(find_bundle("small")), read_patient(folder / "cine_4d.nii.gz"))
    save_annotation(found, tmp_path / "out", pictures=False)
    mine, known = stored(tmp_path / "out" / "label.nii.gz"), stored(folder / "auto_seg_4d.nii.gz")
    assert dice(mine == Label.LV, known == 1) > 0.8
    assert dice(mine == Label.MYO, known == 2) > 0.6
    assert found.ed_es is not None
    assert abs(found.ed_es[1] - 7) <= 2


def test_a_real_heart_beats_as_it_is_asked_to(cine_data: Path) -> None:
    """patient005 of ACDC: DCM, 30 frames of which two are here."""
    folder = cine_data / "acdc/training/patient005"
    pipe = CinePipeline.from_pretrained("small", device="cpu")
    patient = read_patient(folder / "patient005_frame01.nii.gz")
    known = stored(folder / "patient005_frame01_gt.nii.gz")
    for ef_percent in (30.0, 60.0):
        cine = animate(pipe, patient, wanted(ef_percent, frames=4, es_index=2))
        edv_ml, esv_ml = (float(cine.volumes_ml(Label.LV)[frame]) for frame in (0, 2))
        assert 100 * (1 - esv_ml / edv_ml) == pytest.approx(ef_percent, abs=3.0)
        assert dice(cine.label[0] == Label.LV, known == Label.LV) > 0.9
        assert cine.provenance["frame_0"]["psnr_db"] > 22.0  # type: ignore[index]
