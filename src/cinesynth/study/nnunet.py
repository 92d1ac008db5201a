"""nnU-Net v2 (Isensee et al., Nature Methods 2021) as an engine, by its own commands.

It runs in an environment of its own (``make nnunet``); nothing of it is imported here. Its checkpoints are its own
format and stay in the cell's folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cinesynth.cases.export_items import dataset_items
from cinesynth.cases.export_nnunet import ENDING, export_nnunet
from cinesynth.cases.nifti import describe_origin, write_nifti
from cinesynth.cases.schema import GENERATED
from cinesynth.data.dataset_table import DatasetTable, SubjectRow
from cinesynth.data.nifti import read_volume
from cinesynth.data.packed import load_study
from cinesynth.errors import ExternalError, InputError
from cinesynth.io.files import make_folder, write_text
from cinesynth.io.progress import ProgressCallback
from cinesynth.study.metrics import judged
from cinesynth.study.runs import Task
from cinesynth.study.spec import NnunetSpec
from cinesynth.study.subjects import name_of
from cinesynth.types import LabelArray

PEOPLE, CELL = ("100", "Dataset100_People"), ("101", "Dataset101_Cell")
"""Numbers and names of what is planned on, and of what is learned from."""
PLANS = "nnUNetPlans"
TRAIN = Path(__file__).with_name("nnunet_train.py")
FOLD = "all"
READY, DONE = "ready", "trained"
LAST_LINES = 15


@dataclass(frozen=True)
class Nnunet:
    """One configuration, trained on everybody of a cell for a fixed number of epochs."""

    spec: NnunetSpec

    def train(self, task: Task, report: ProgressCallback) -> None:
        """Plan, preprocess and train; goes on with nnU-Net's last checkpoint."""
        if (task.folder / DONE).is_file():
            return
        report("nnU-Net", 0, 2, {})
        if not (task.folder / "preprocessed" / READY).is_file():  # plans alone may be of one that was killed
            self._prepare(task, report)
            write_text(task.folder / "preprocessed" / READY, "")
        report("nnU-Net", 1, 2, {})
        again = ["--c"] if any((task.folder / "results").rglob("checkpoint_latest.pth")) else []
        self._call(task, "train", CELL[0], self.spec.configuration, FOLD, *self._device(), *again)
        write_text(task.folder / DONE, "")
        for part in ("raw", "preprocessed"):
            shutil.rmtree(task.folder / part)
        report("nnU-Net", 2, 2, {})

    def _prepare(self, task: Task, report: ProgressCallback) -> None:
        """Plan on the labelled people, and preprocess by that plan what the cell learns from: arms are planned alike.

        A plan of people and generated hearts would take its voxels, and so its resolution, from both.
        """
        people = {name_of(row) for row in DatasetTable.read(task.pool) if row.dataset != GENERATED}
        for (_, name), chosen in ((PEOPLE, people), (CELL, {name_of(row) for row in task.rows})):
            raw = task.folder / "raw" / name
            if not raw.is_dir():
                items = [item for item in dataset_items(task.pool) if item.name in chosen]
                export_nnunet(items, raw, progress=report)
        both = (PEOPLE[0], CELL[0])
        self._call(task, "extract_fingerprint", "-d", *both, "-np", "2")
        self._call(task, "plan_experiment", "-d", *both, "-gpu_memory_target", f"{self.spec.memory_gb:g}")
        moved = ["-s", PEOPLE[0], "-t", CELL[0], "-sp", PLANS, "-tp", PLANS]
        self._call(task, "move_plans_between_datasets", *moved)
        self._call(task, "preprocess", "-d", CELL[0], "-c", self.spec.configuration, "-np", "2")

    def labels(self, task: Task, data: Path, people: Sequence[SubjectRow]) -> Iterator[LabelArray]:
        """Labels of the judged frames, each predicted as a volume."""
        seen, found = task.folder / "seen", task.folder / "found"
        for folder in (seen, found):
            shutil.rmtree(folder, ignore_errors=True)
            make_folder(folder)
        frames: list[list[str]] = []
        for row in people:
            study = judged(load_study(data, row))
            names = [f"{name_of(row)}_{frame:02d}" for frame in range(len(study.image))]
            for name, image in zip(names, study.image, strict=True):
                origin = describe_origin(study, synthetic=False)
                write_nifti(seen / f"{name}_0000{ENDING}", image, study.affine, description=origin)
            frames.append(names)
        asked = ["-i", str(seen), "-o", str(found), "-d", CELL[0], "-c", self.spec.configuration, "-f", FOLD]
        mirrored = [] if self.spec.mirror else ["--disable_tta"]
        self._call(task, "predict", *asked, *mirrored, *self._device())
        for names in frames:
            yield _stacked([found / f"{name}{ENDING}" for name in names])
        for folder in (seen, found):
            shutil.rmtree(folder)

    def _device(self) -> list[str]:
        return ["-device", self.spec.device]

    def _call(self, task: Task, command: str, *arguments: str) -> None:
        """Run a command of nnU-Net on the folders of ``task``; what it says goes to ``nnunet.log``."""
        program = f"nnUNetv2_{command}"
        path = shutil.which(program, path=None if self.spec.bin is None else str(self.spec.bin))
        if path is None:
            where = "on the PATH" if self.spec.bin is None else f"in {self.spec.bin}"
            raise InputError(
                f"there is no {program} {where}", hint="make nnunet installs it; name .venv-nnunet/bin as engine.bin"
            )
        start = [str(Path(path).with_name("python")), str(TRAIN)] if command == "train" else [path]
        with (make_folder(task.folder) / "nnunet.log").open("ab") as log:
            done = subprocess.run([*start, *arguments], env=self._environment(task), stdout=log, stderr=log)
        if done.returncode:
            said = (task.folder / "nnunet.log").read_text(errors="replace").splitlines()[-LAST_LINES:]
            raise ExternalError(f"{program} failed:\n" + "\n".join(said), hint=f"all it said: {task.folder}/nnunet.log")

    def _environment(self, task: Task) -> dict[str, str]:
        own = {f"nnUNet_{part}": str(task.folder / part) for part in ("raw", "preprocessed", "results")}
        if self.spec.device == "cpu":  # compiling takes longer than it saves there
            own["nnUNet_compile"] = "f"
        own |= {"CINESYNTH_EPOCHS": str(self.spec.epochs), "CINESYNTH_ITERATIONS": str(self.spec.iterations)}
        own |= {"CINESYNTH_SEED": str(task.seed), "CINESYNTH_AUGMENT": str(int(task.augment))}
        return {**os.environ, **own}


def _stacked(files: Sequence[Path]) -> LabelArray:
    return np.stack([read_volume(file, 3).data.astype(np.uint8) for file in files])
