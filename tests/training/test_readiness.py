"""What the last step needs is known before the first, and doctor and train say the same of it."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cinesynth.config import load_config
from cinesynth.data.dataset_table import DatasetTable
from cinesynth.data.ingest import ingest
from cinesynth.data.readiness import unmet_by_segmenter, unmet_needs
from cinesynth.errors import ConfigError
from cinesynth.study.generation import without_labels
from cinesynth.training.checkpoint import open_run, save_checkpoint
from cinesynth.training.run import _optional
from cinesynth.training.stages import Loss
from cinesynth.training.stages.segmenter import SegmenterStage
from tests.conftest import Run
from tests.data.test_doctor import person

QUICK = ("--preset", "smoke", "--set", "grid.size=[64,64,8]")


def refusals(run: Run, dataset: Path, folder: Path) -> list[str]:
    """What doctor, a dry run and the training itself say."""
    where = ["--dataset", dataset, "--run", folder / "run"]
    verbs = [
        ("doctor", dataset, "--preset", "smoke"),
        ("train", "all", *where, *QUICK, "--dry-run"),
        ("train", "all", *where, *QUICK),
        ("train", "motion-diffusion", *where, *QUICK),
    ]
    said = []
    for verb in verbs:
        code, out, err = run(*verb)
        assert code == 3, verb
        said.append(" ".join((out + err).split()))
    assert not (folder / "run").exists()
    assert not (dataset / "grids").exists()  # nobody waited for anything
    return said


def test_without_labels_there_is_nothing_to_fit_the_prior_on(run: Run, tmp_path: Path) -> None:
    dataset = tmp_path / "data"
    ingest([without_labels(person(f"s{i}", i)) for i in range(8)], dataset)
    for text in refusals(run, dataset, tmp_path):
        assert re.search("none of [56] training subjects has both LV volumes", text)
        assert "hint: ingest studies with labels of the LV at ED and ES" in text
    ingest([person(f"labelled{i}", 20 + i) for i in range(4)], dataset)
    assert run("doctor", dataset, "--preset", "smoke")[0] == 0
    assert run("train", "all", "--dataset", dataset, *QUICK, "--dry-run")[0] == 0


def test_one_subject_cannot_be_validated(run: Run, tmp_path: Path) -> None:
    dataset = tmp_path / "data"
    ingest([person("s0", 0)], dataset)
    for text in refusals(run, dataset, tmp_path):
        assert "validation has no subjects" in text
        assert "hint: ingest more subjects: from five on every split has one; or edit the column split" in text
    ingest([person(f"s{i}", i) for i in range(1, 5)], dataset)
    assert {row.split for row in DatasetTable.read(dataset)} == {"train", "validation", "test"}
    assert run("doctor", dataset, "--preset", "smoke")[0] == 0


def test_phantoms_teach_no_prior_where_there_are_patients(phantoms: Path) -> None:
    rows = DatasetTable.read(phantoms).rows
    assert list(unmet_needs(rows)) == []
    patient = replace(rows[0], dataset="acdc", subject="p1", split="train", lv_esv_ml=None)
    assert [need.about for need in unmet_needs([*rows, patient])] == ["labels"]
    exchanged = replace(patient, lv_edv_ml=60.0, lv_esv_ml=140.0)
    assert [need.about for need in unmet_needs([*rows, exchanged])] == ["labels"]
    assert list(unmet_by_segmenter([*rows, patient])) == []  # it needs no volumes


def test_a_segmenter_needs_annotated_subjects_in_both_splits(run: Run, tmp_path: Path) -> None:
    dataset = tmp_path / "data"
    studies = [person(f"s{i}", i) for i in range(8)]
    ingest(studies, dataset)
    held = {row.subject for row in DatasetTable.read(dataset) if row.split == "validation"}
    rows = [replace(row, labelled_frames=0) if row.subject in held else row for row in DatasetTable.read(dataset)]
    assert [need.text for need in unmet_by_segmenter(rows)] == [
        "validation has no annotated subjects, which `train segmenter` needs"
    ]
    DatasetTable(tuple(rows)).write(dataset)
    code, _, err = run("train", "segmenter", "--dataset", dataset, "--run", tmp_path / "run", *QUICK)
    assert code == 3
    assert "validation has no annotated subjects" in err
    assert not (tmp_path / "run").exists()  # the dataset may still change before a run is begun with it


# --- A loss that is not finite ---------------------------------------------------------------------------------------


def test_the_hint_of_a_loss_that_is_not_finite_can_be_followed(
    run: Run, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = SegmenterStage.losses

    def diverging(self: SegmenterStage, step: int, cases: range) -> Iterator[Loss]:
        for loss in losses(self, step, cases):
            diverges = step == 1 and self.settings.learning_rate > 1.5e-3
            yield replace(loss, value=loss.value * float("nan")) if diverges else loss

    monkeypatch.setattr(SegmenterStage, "losses", diverging)
    where = ["--dataset", phantoms, "--run", tmp_path / "run", "--preset", "smoke"]
    two_steps = ["--set", "training.segmenter.steps=2", "--set", "training.segmenter.checkpoint_every_steps=1"]
    command = ["train", "segmenter", *where, *two_steps]
    code, _, err = run(*command, "--set", "training.segmenter.learning_rate=0.002")
    assert code == 2
    said = " ".join(err.split())
    assert "the loss of model is not finite at step 1" in said
    folder, setting = re.search(r"remove (\S+), and repeat the command with --set (\S+);", said).groups()
    assert setting == "training.segmenter.learning_rate=0.001"
    code, _, err = run(*command, "--set", setting)  # the stage has begun with the other rate
    assert code == 2
    assert "was started with other settings" in err
    assert "first remove its folder there" in err
    shutil.rmtree(folder)
    assert run(*command, "--set", setting)[0] == 0


def test_settings_of_stages_that_have_not_begun_may_change(tmp_path: Path) -> None:
    run = tmp_path / "run"
    open_run(run, load_config("smoke"), "hash", "vae")
    (run / "vae.json").write_text("{}")  # finished
    save_checkpoint(run / "residual_motion" / "checkpoints", 5, {}, {}, {})
    (run / "anatomy_diffusion").mkdir()  # stopped before its first checkpoint
    changed = ["training.motion_diffusion.learning_rate=0.001", "training.anatomy_diffusion.batch_size=6"]
    later = load_config("smoke", changed)
    open_run(run, later, "hash", "vae")
    assert load_config(str(run / "config.yaml")) == later
    for stage in ("decoder", "texture"):  # which the preset lacks: as its error says
        with pytest.raises(ConfigError, match=f"has no settings for the stage {stage}") as error:
            _optional(later, stage)
        changed += re.findall(r"--set (\S+?);? ", f"{error.value.hint} ")
        later = load_config("smoke", changed)
        open_run(run, later, "hash", "vae")
        assert _optional(later, stage).steps == 1000
    for key in ("training.vae.steps=9", "training.residual_motion.steps=9", "training.seed=9", "vae.latent_channels=5"):
        with pytest.raises(ConfigError, match="started with other settings"):
            open_run(run, load_config("smoke", [*changed, key]), "hash", "vae")
    assert load_config(str(run / "config.yaml")) == later


def test_a_stage_names_the_stages_that_it_learns_from(run: Run, phantoms: Path, tmp_path: Path) -> None:
    where = ["--dataset", phantoms, "--run", tmp_path / "run", "--preset", "smoke"]
    for stage, parent in (("motion-diffusion", "vae"), ("anatomy-diffusion", "vae"), ("residual-motion", "vae")):
        code, _, err = run("train", stage, *where)
        assert code == 4
        assert f"stage {parent} of {tmp_path / 'run'} is not finished" in " ".join(err.split())
        assert f"hint: train it first, with the options of the other stages: cinesynth train {parent}" in err
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    for name in ("vae", "residual_motion"):
        (tmp_path / "run" / f"{name}.json").write_text("{}")
    code, _, err = run("bundle", tmp_path / "run", "--dataset", phantoms, "--out", tmp_path / "weights")
    assert code == 4
    assert "cinesynth train anatomy-diffusion" in err
