"""What a user sees: help, plans, and errors that say what to do."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cinesynth import __version__
from cinesynth.data.dataset_table import DatasetTable
from cinesynth.data.normalisation import default_es_index
from cinesynth.data.phantom import phantom_study
from cinesynth.weights.registry import find_bundle, shipped_bundles


def test_version(run) -> None:
    assert run("--version")[:2] == (0, f"cinesynth {__version__}\n")


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--diagnosis", "flu"], "flu"),
        (["--edv", "120", "--ef", "120"], "EF 120"),
        (["--edv", "100", "--esv", "120"], "ESV 120"),
        (["--edv", "0.28"], "EDV 0.28"),
        (["--slices", "0"], "0 slices"),
        (["--slices", "40"], "40 slices"),
        (["--ef", "50"], "an EF was given without an EDV"),
        (["--edv", "100", "--esv", "50", "--ef", "50"], "both given"),
        (["--rv-edv", "0.2"], "RV EDV 0.2"),
        (["--rv-edv", "100", "--rv-esv", "120"], "RV ESV 120"),
        (["--mass", "5"], "mass 5 g"),
        (["--vendor", " "], "the vendor is an empty text"),
    ],
)
def test_impossible_requests_say_what_to_do(run, tmp_path: Path, flags: list[str], found: str) -> None:
    out = tmp_path / "case"
    code, _, err = run("generate", "--out", str(out), *flags)
    assert code == 2
    assert found in err
    assert "hint:" in err
    assert "Traceback" not in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--rv-edv", "160"], "RV end-diastolic volume (rv_edv_ml)"),
        (["--rv-esv", "80"], "RV end-systolic volume (rv_esv_ml)"),
        (["--mass", "120"], "myocardial mass (myo_mass_g)"),
        (["--vendor", "Siemens", "--count", "2"], "vendor (vendor)"),
    ],
)
def test_weights_refuse_what_they_were_not_trained_with(run, tmp_path: Path, flags: list[str], found: str) -> None:
    code, _, err = run("generate", "--weights", "phantom", "--out", str(tmp_path / "case"), *flags)
    assert code == 2
    assert f"these weights were not trained with {found}" in " ".join(err.split())
    assert "use weights that support it: --weights compact" in " ".join(err.split())
    assert not (tmp_path / "case").exists()


def test_missing_weights_are_named(run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, found in (("none", "there are no weights"), ("empty", "bundle.json is missing")):
        code, _, err = run("generate", "--out", str(tmp_path / "case"), "--weights", str(tmp_path / name))
        assert code == 4
        assert found in err
        assert not (tmp_path / "case").exists()


def test_weights_that_ship_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_bundle() == find_bundle("compact") == shipped_bundles()["compact"]
    (tmp_path / "small").mkdir()
    assert find_bundle("small") == Path("small")  # a folder of that name is meant


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("grid.spacing_cm=0.1", "grid.spacing_cm: unknown key, did you mean spacing_mm?"),
        ("grid.spacing_mm=[0.002, 0.002, 0.01]", "grid.spacing_mm.0"),
        ("training.vae.steps=0", "training.vae.steps"),
        ("training.vae.steps=many", "training.vae.steps"),
        ("vae.latent_scale=0.645", "vae.latent_scale: unknown key"),
        ("grid.size=[100, 96, 12]", "grid.size x = 100"),
    ],
)
def test_settings_are_checked_by_the_path_of_their_key(run, override: str, found: str) -> None:
    """Also defect 2: nobody can set a latent scale."""
    code, _, err = run("train", "all", "--dry-run", "--preset", "smoke", "--set", override)
    assert code == 2
    assert found in err


def test_dry_run_prints_the_tree_and_its_cost(run) -> None:
    code, out, _ = run("train", "all", "--dry-run", "--preset", "smoke", "--set", "training.vae.steps=7")
    assert code == 0
    assert "steps: 7" in out
    assert "anatomy denoiser" in out
    assert "GFLOP" in out


def patient(folder: Path, label: np.ndarray | None = None, shape: tuple[int, ...] = (20, 20, 6)) -> None:
    """An ACDC patient of two frames."""
    folder.mkdir(parents=True)
    name = folder.name
    (folder / "Info.cfg").write_text("ED: 1\nES: 3\nGroup: NOR\nHeight: 170\nNbFrame: 8\nWeight: 70\n")
    affine = np.diag([5.0, 5.0, 10.0, 1.0])
    image = np.random.default_rng(0).integers(0, 255, shape).astype(np.int16)
    truth = np.zeros(shape, np.uint8)
    truth[8:12, 8:12, 1:5] = 3
    for frame, first in (("01", 8), ("03", 9)):  # the heart has a row less at ES
        own = (truth if label is None else label).copy()
        own[8:first] = 0
        nib.save(nib.Nifti1Image(image, affine), folder / f"{name}_frame{frame}.nii.gz")
        nib.save(nib.Nifti1Image(own, affine), folder / f"{name}_frame{frame}_gt.nii.gz")


@pytest.mark.parametrize(
    ("label", "found"),
    [
        (np.zeros((20, 20, 5), np.uint8), "(20, 20, 6)"),
        (np.full((20, 20, 6), 7, np.uint8), "label"),
    ],
)
def test_bad_patients_are_refused_and_nothing_is_left(run, tmp_path: Path, label: np.ndarray, found: str) -> None:
    patient(tmp_path / "acdc" / "training" / "patient001", label)
    code, _, err = run("ingest", "acdc", str(tmp_path / "acdc"), "--out", str(tmp_path / "dataset"))
    assert code == 3
    assert found in err
    assert "patient001" in err
    assert not (tmp_path / "dataset").exists()


def test_bad_patients_can_be_left_out_and_are_listed(run, tmp_path: Path) -> None:
    patient(tmp_path / "acdc" / "training" / "patient001", np.full((20, 20, 6), 7, np.uint8))
    patient(tmp_path / "acdc" / "training" / "patient002")
    source, out = str(tmp_path / "acdc"), tmp_path / "dataset"
    code, said, _ = run("ingest", "acdc", source, "--out", str(out), "--on-error", "skip", "--workers", "1")
    assert code == 0
    assert "patient001" in said
    assert "1 skipped" in said
    assert "RV ED ES; MYO ED ES; LV ED ES" in said
    assert "patient001_frame01_gt" in (out / "skipped.csv").read_text()
    assert [path.name for path in (out / "studies").iterdir()] == ["acdc_patient002.h5"]


@pytest.mark.parametrize("verb", ["acdc", "mnms", "mnms2", "scd", "dsb", "cinema", "dicom", "nifti"])
def test_an_empty_folder_is_no_dataset(run, tmp_path: Path, verb: str) -> None:
    (tmp_path / "empty").mkdir()
    layout = ["--layout", "scd_edes"] if verb == "nifti" else []
    code, _, err = run("ingest", verb, str(tmp_path / "empty"), "--out", str(tmp_path / "dataset"), *layout)
    assert code == 3, err
    assert "hint:" in err
    assert not (tmp_path / "dataset").exists()


BARE = "dataset: bare\nimage: '{subject}.nii.gz'\nslices: base_first\n"
"""A layout that knows nothing but where the cines lie."""


def test_weights_without_annotate_are_refused(run, tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text(BARE)
    flags = ["--layout", str(tmp_path / "bare.yaml"), "--out", str(tmp_path / "dataset")]
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((9, 9, 5, 8)), np.eye(4)), tmp_path / "p1.nii.gz")
    code, _, err = run("ingest", "nifti", str(tmp_path), *flags, "--weights", str(tmp_path / "none"))
    assert code == 2
    assert "--annotate" in err
    code, _, err = run("ingest", "nifti", str(tmp_path), *flags, "--annotate", "--weights", str(tmp_path / "none"))
    assert code == 4
    assert "there are no weights" in err
    assert not (tmp_path / "dataset").exists()


@pytest.mark.parametrize("verb", ["acdc", "mnms2", "scd", "phantom"])
def test_sources_that_know_their_phases_need_no_masks(run, tmp_path: Path, verb: str) -> None:
    root = [] if verb == "phantom" else [str(tmp_path)]
    code, _, err = run("ingest", verb, *root, "--out", str(tmp_path / "dataset"), "--annotate")
    assert code == 2
    assert "--annotate" in err


def test_a_layout_that_is_not_known_is_told(run, tmp_path: Path) -> None:
    code, _, err = run("ingest", "nifti", str(tmp_path), "--out", str(tmp_path / "dataset"), "--layout", "hospital")
    assert code == 2
    assert "scd_edes" in err


@pytest.mark.parametrize(
    ("verb", "folder", "expected"),
    [
        (["scd"], "scd", ["MYO ED; LV ED ES", "{} subjects"]),
        (["nifti", "--layout", "scd_edes"], "scd_edes", ["MYO ED; LV ED ES", "{} subjects"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_partly_annotated_data_go_in_and_onto_a_grid(
    run, cine_data: Path, tmp_path: Path, verb: list[str], folder: str, expected: list[str]
) -> None:
    out = tmp_path / "dataset"
    code, said, err = run("ingest", verb[0], str(cine_data / folder), "--out", str(out), *verb[1:])
    assert code == 0, err
    listed = next((cine_data / folder).glob("*.csv")).read_text().splitlines()
    for words in expected:
        assert words.format(len(listed) - 1) in said
    for row in DatasetTable.read(out):
        assert row.lv_edv_ml > row.lv_esv_ml > 0
        assert row.rv_edv_ml is row.myo_es_ml is None
    code, said, err = run("prepare", "--dataset", str(out), "--preset", "paper")
    assert code == 0, err


def test_a_preset_that_does_not_fit_the_data_is_refused(run, tmp_path: Path) -> None:
    """A heart of 24 slices of 10 mm does not fit 12."""
    tall = np.zeros((20, 20, 24), np.uint8)
    tall[8:12, 8:12, 1:23] = 3
    patient(tmp_path / "acdc" / "training" / "patient001", tall, tall.shape)
    assert run("ingest", "acdc", str(tmp_path / "acdc"), "--out", str(tmp_path / "dataset"))[0] == 0
    code, _, err = run("prepare", "--dataset", str(tmp_path / "dataset"), "--preset", "smoke")
    assert code == 3
    assert "patient001" in err
    assert "hint:" in err


def test_training_without_data_is_refused(run) -> None:
    code, _, err = run("train", "vae", "--preset", "smoke")
    assert code == 2
    assert "--dataset" in err


def test_a_decoder_starts_from_its_own_run_alone(run, tmp_path: Path) -> None:
    where = ["--dataset", str(tmp_path), "--run", str(tmp_path / "run"), "--initial", str(tmp_path)]
    code, _, err = run("train", "decoder", "--preset", "compact", *where)
    assert code == 2
    assert "--initial does not apply to the decoder" in err
    assert not (tmp_path / "run").exists()


def test_a_segmenter_is_trained_by_the_same_verb(run, phantoms: Path, tmp_path: Path) -> None:
    """On phantoms, where there is nobody else; and `train all` does not train it."""
    settings = ["--preset", "smoke", "--set", "training.segmenter.steps=1"]
    code, _, err = run("train", "segmenter", "--dataset", str(phantoms), "--run", str(tmp_path / "run"), *settings)
    assert code == 0, err
    assert "segmenter: trained on {'phantom': 7}" in err
    assert (tmp_path / "run" / "segmenter.safetensors").is_file()
    code, _, err = run("bundle", str(tmp_path / "run"), "--dataset", str(phantoms), "--out", str(tmp_path / "weights"))
    assert code == 4
    assert "motion_diffusion.json is missing" in err or "vae.json is missing" in err


SHIPPED = Path(__file__).parents[2] / "src" / "cinesynth" / "weights" / "compact"


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="no weights are shipped in this checkout")
class TestShippedWeights:
    """The README's first command, and what a damaged copy of its weights says."""

    def test_generate_meets_the_request(self, run, tmp_path: Path) -> None:
        out = tmp_path / "case"
        flags = ["--diagnosis", "DCM", "--edv", "280", "--ef", "25", "--slices", "10", "--seed", "7"]
        code, _, err = run("generate", *flags, "--frames", "8", "--out", str(out))
        assert code == 0, err
        content = json.loads((out / "case.json").read_text())
        image, label = nib.load(out / "image.nii.gz"), nib.load(out / "label.nii.gz")
        assert image.shape == label.shape == (192, 192, 10, 8)
        assert content["synthetic"] is True
        voxel_ml = float(np.prod(label.header.get_zooms()[:3])) / 1000
        lv_ml = (np.asarray(label.dataobj) == 3).sum(axis=(0, 1, 2)) * voxel_ml
        assert content["achieved"]["lv_edv_ml"] == pytest.approx(lv_ml[0], abs=0.01)
        assert content["achieved"]["lv_edv_ml"] > 150  # a dilated heart, whatever the draw
        assert content["achieved"]["ef_percent"] < 50
        assert "research and non-commercial use" in json.dumps(content["provenance"])

    def test_annotate_finds_the_phases_of_a_bare_cine(self, run, tmp_path: Path) -> None:
        """Its cycle begins three frames before ED, and nothing says so."""
        study = phantom_study(0, frames=8, spacing_mm=2.0, field_mm=240.0).study
        folder, out = tmp_path / "cines", [str(tmp_path / name) for name in ("found", "assumed")]
        folder.mkdir()
        (tmp_path / "bare.yaml").write_text(BARE)
        image = np.moveaxis(np.roll(study.image, 3, axis=0), 0, -1)
        for name in ("a", "b"):
            nib.save(nib.Nifti1Image(image, study.affine), folder / f"{name}.nii.gz")
        flags = ["ingest", "nifti", str(folder), "--layout", str(tmp_path / "bare.yaml"), "--workers", "2", "--out"]
        code, said, err = run(*flags, out[0], "--annotate")
        assert code == 0, err
        assert "model" in said
        for row in DatasetTable.read(Path(out[0])):
            assert abs((row.ed_index - 3 + 4) % 8 - 4) <= 1
            assert abs((row.es_index - 3 - study.es_index + 4) % 8 - 4) <= 1
            assert row.phases_from == "model"
            assert row.notes.startswith("ED and ES by the masks of weights ")
            assert (row.lv_edv_ml, row.labelled_frames) == (None, 0)
        assert run(*flags, out[1])[0] == 0
        for row in DatasetTable.read(Path(out[1])):
            assert (row.ed_index, row.es_index, row.phases_from, row.notes) == (0, default_es_index(8), "assumed", "")

    def test_an_altered_file_is_refused(self, run, tmp_path: Path) -> None:
        shutil.copytree(SHIPPED, tmp_path / "weights")
        (tmp_path / "weights" / "prior.json").write_text("{}")
        code, _, err = run("generate", "--out", str(tmp_path / "case"), "--weights", str(tmp_path / "weights"))
        assert code == 4
        assert "prior.json" in err
