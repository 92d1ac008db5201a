"""The engines that train segmenters: a light 2D U-Net, and nnU-Net v2 through its own commands.

``train`` resumes in the task's folder and leaves a finished segmenter alone. ``segment`` gives the labels ``T X Y Z``
of each row of a dataset, at the `ed_es_frames`, in the row's own voxels.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from cinesynth.cases.export_items import dataset_items
from cinesynth.cases.export_nnunet import ENDING, export_nnunet
from cinesynth.cases.writing import describe_origin, write_nifti
from cinesynth.config import Config
from cinesynth.data.dataset_table import GENERATED, DatasetTable, SubjectRow
from cinesynth.data.geometry import Grid, Placement, slices_on_grid
from cinesynth.data.nifti import read_volume
from cinesynth.data.normalisation import IntensityScale, from_uint8, to_uint8
from cinesynth.data.packed import load_study, prepare
from cinesynth.data.phantom import PHANTOM
from cinesynth.errors import ExternalError, InputError
from cinesynth.evaluation.segmenter import NAME, Segmenter
from cinesynth.io.files import make_folder, write_text
from cinesynth.io.tasks import ProgressCallback
from cinesynth.models.codec import one_heart
from cinesynth.models.precision import MIXED_PRECISION, resolve_precision
from cinesynth.study.metrics import ed_es_frames
from cinesynth.study.plan import SegmenterTask, subject_name
from cinesynth.study.spec import NnunetSpec, UNetSpec
from cinesynth.training.stages.segmenter import SegmenterStage, SliceUNet
from cinesynth.training.trainer import Trainer
from cinesynth.types import LabelArray, Study
from cinesynth.weights.folder import save_stage

# --- 2D U-Net --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UNetEngine:
    """The 2D U-Net of ``cinesynth train segmenter``, for CPUs and quick answers.

    Every run takes the same number of steps and keeps the final averaged weights, so that no validation set is needed.
    """

    spec: UNetSpec

    def config(self, task: SegmenterTask) -> Config:
        """The training configuration of a run."""
        config = self.spec.config
        # Phantoms get the share that they have among the cases they are sampled with, so that each counts as one case.
        alike = [row for row in task.rows if task.real_fraction is None or row.dataset != GENERATED]
        phantoms = sum(row.dataset == PHANTOM for row in alike) / len(alike)
        own = {"augment": task.augment, "validate_every_steps": config.training.segmenter.steps}
        segmenter = config.training.segmenter.model_copy(update={**own, "phantom_share": phantoms})
        training = config.training.model_copy(update={"segmenter": segmenter, "seed": task.seed})
        return config.model_copy(update={"training": training})

    def train(self, task: SegmenterTask, progress: ProgressCallback) -> None:
        """Train on the rows of the task."""
        if (task.folder / f"{NAME}.json").is_file():
            return
        config = self.config(task)
        packed = prepare(task.dataset, Grid.from_config(config.grid), progress)
        names = {subject_name(row) for row in task.rows}
        part = packed.where([f"{r.dataset}_{r.subject}" in names for r in packed.records])
        accelerator = Accelerator(mixed_precision=MIXED_PRECISION[resolve_precision(config.training.precision)])
        torch.manual_seed(task.seed)
        network = SliceUNet(config.segmenter)
        generated_share = None if task.real_fraction is None else 1.0 - task.real_fraction
        stage = SegmenterStage(network, config, part, part, accelerator.device, generated_share)
        trained = Trainer(stage, task.folder / "training", accelerator, progress).run()
        network.load_state_dict(trained.state_dict())
        count = dict(sorted(Counter(record.dataset for record in part.records).items()))
        seen = {"split": "train", "subjects": count, "frames": sum(len(r.phases) for r in part.records)}
        save_stage(task.folder, NAME, network.cpu(), config, {"data_hash": packed.data_hash, "trained_on": seen})
        shutil.rmtree(task.folder / "training")

    def segment(self, task: SegmenterTask, data: Path, rows: Sequence[SubjectRow]) -> Iterator[LabelArray]:
        """Labels on the scanner's grid, from the images alone."""
        segmenter, spacing_mm = Segmenter.load(task.folder), self.config(task).grid.spacing_mm
        for row in rows:
            yield segment_whole_field(segmenter, spacing_mm, ed_es_frames(load_study(data, row)))


def segment_whole_field(segmenter: Segmenter, spacing_mm: tuple[float, float, float], study: Study) -> LabelArray:
    """Labels of all frames, ``T X Y Z`` in its voxels: the largest part found in the whole image, without a crop."""
    native, slices = study.image.shape[1:], slices_on_grid(study, spacing_mm[2])
    x, y = (round(n * own / target) for n, own, target in zip(native, study.spacing_mm, spacing_mm[:2], strict=False))
    placement = Placement(native, study.affine, Grid((x, y, slices), spacing_mm), slices, (0, 0))
    scale = IntensityScale.of(study.image)
    image = from_uint8(to_uint8(scale.apply(placement.image_to_grid(study.image))))  # rounded as training data are
    label = placement.label_to_native(segmenter.segment(image, spacing_mm))
    return np.stack([one_heart(frame) for frame in label])


# --- nnU-Net ---------------------------------------------------------------------------------------------------------

REAL, RUN = ("100", "Dataset100_Real"), ("101", "Dataset101_Run")
"""nnU-Net's numbers and names of two datasets: the labelled subjects, for the plan, and the training data of a run."""
PLANS = "nnUNetPlans"
FOLD = "all"
READY, DONE = "ready", "trained"


@dataclass(frozen=True)
class NnunetEngine:
    """nnU-Net v2 (Isensee et al., Nature Methods 2021), trained on all data of a run for a fixed number of epochs.

    It runs in an environment of its own (``make nnunet``); nothing of it is imported here. Its checkpoints have its
    own format and stay in the folder of the run.
    """

    spec: NnunetSpec

    def train(self, task: SegmenterTask, progress: ProgressCallback) -> None:
        """Plan, preprocess and train; resumes from nnU-Net's last checkpoint."""
        if (task.folder / DONE).is_file():
            return
        progress("nnU-Net", 0, 2, {})
        if not (task.folder / "preprocessed" / READY).is_file():  # without the mark, preprocessing was interrupted
            self._prepare(task, progress)
            write_text(task.folder / "preprocessed" / READY, "")
        progress("nnU-Net", 1, 2, {})
        resume = ["--c"] if any((task.folder / "results").rglob("checkpoint_latest.pth")) else []
        self._call(task, "train", RUN[0], self.spec.configuration, FOLD, "-device", self.spec.device, *resume)
        write_text(task.folder / DONE, "")
        for part in ("raw", "preprocessed"):
            shutil.rmtree(task.folder / part)
        progress("nnU-Net", 2, 2, {})

    def _prepare(self, task: SegmenterTask, progress: ProgressCallback) -> None:
        """Preprocess by a plan made on the labelled subjects, so that generated data do not change the voxel size."""
        real = {subject_name(row) for row in DatasetTable.read(task.dataset) if row.dataset != GENERATED}
        for (_, name), chosen in ((REAL, real), (RUN, {subject_name(row) for row in task.rows})):
            raw = task.folder / "raw" / name
            if not raw.is_dir():
                items = [item for item in dataset_items(task.dataset) if item.name in chosen]
                export_nnunet(items, raw, progress=progress)
        both = (REAL[0], RUN[0])
        self._call(task, "extract_fingerprint", "-d", *both, "-np", "2")
        self._call(task, "plan_experiment", "-d", *both, "-gpu_memory_target", f"{self.spec.memory_gb:g}")
        self._call(task, "move_plans_between_datasets", "-s", REAL[0], "-t", RUN[0], "-sp", PLANS, "-tp", PLANS)
        self._call(task, "preprocess", "-d", RUN[0], "-c", self.spec.configuration, "-np", "2")

    def segment(self, task: SegmenterTask, data: Path, rows: Sequence[SubjectRow]) -> Iterator[LabelArray]:
        """Labels of the ED and ES frames, each predicted as a volume of its own."""
        images, predictions = task.folder / "images", task.folder / "predictions"
        for folder in (images, predictions):
            shutil.rmtree(folder, ignore_errors=True)
            make_folder(folder)
        names: list[list[str]] = []
        for row in rows:
            study = ed_es_frames(load_study(data, row))
            names.append([f"{subject_name(row)}_{frame:02d}" for frame in range(len(study.image))])
            for name, image in zip(names[-1], study.image, strict=True):
                origin = describe_origin(study, synthetic=False)
                write_nifti(images / f"{name}_0000{ENDING}", image, study.affine, description=origin)
        own = ["-device", self.spec.device, *([] if self.spec.mirror else ["--disable_tta"])]
        model = ["-d", RUN[0], "-c", self.spec.configuration, "-f", FOLD]
        self._call(task, "predict", "-i", str(images), "-o", str(predictions), *model, *own)
        for frames in names:
            volumes = (read_volume(predictions / f"{name}{ENDING}", 3) for name in frames)
            yield np.stack([volume.data.astype(np.uint8) for volume in volumes])
        for folder in (images, predictions):
            shutil.rmtree(folder)

    def _call(self, task: SegmenterTask, command: str, *arguments: str) -> None:
        """Run a command of nnU-Net on the folders of ``task``; its output goes to ``nnunet.log``."""
        program = f"nnUNetv2_{command}"
        path = shutil.which(program, path=None if self.spec.bin is None else str(self.spec.bin))
        if path is None:
            where = "on the PATH" if self.spec.bin is None else f"in {self.spec.bin}"
            hint = "run make nnunet, then set engine.bin to .venv-nnunet/bin"
            raise InputError(f"{program} was not found {where}", hint=hint)
        script = Path(__file__).with_name("nnunet_train.py")
        start = [str(Path(path).with_name("python")), str(script)] if command == "train" else [path]
        own = {f"nnUNet_{part}": str(task.folder / part) for part in ("raw", "preprocessed", "results")}
        if self.spec.device == "cpu":  # there, compiling takes longer than it saves
            own["nnUNet_compile"] = "f"
        own |= {"CINESYNTH_EPOCHS": str(self.spec.epochs), "CINESYNTH_ITERATIONS": str(self.spec.iterations)}
        own |= {"CINESYNTH_SEED": str(task.seed), "CINESYNTH_AUGMENT": str(int(task.augment))}
        log = make_folder(task.folder) / "nnunet.log"
        with log.open("ab") as output:
            done = subprocess.run([*start, *arguments], env={**os.environ, **own}, stdout=output, stderr=output)
        if done.returncode:
            last = log.read_text(errors="replace").splitlines()[-15:]
            raise ExternalError(f"{program} failed:\n" + "\n".join(last), hint=f"its whole output is in {log}")
