"""What `identical.py` runs on both revisions, and how it reads what was written, under the names of today."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import nibabel
import numpy as np
from safetensors.numpy import load_file

RENAMED_STAGES = {"motion": "residual_motion", "anatomy": "anatomy_diffusion", "dynamics": "motion_diffusion"}
"""Stages, which name files and folders of runs and weights: old name to new."""
RENAMED_TENSORS: dict[str, str] = {}
"""Names of tensors, or dotted parts of them: old to new. A new name must not be an old one of something else."""
RENAMED_ACCEPTANCE = {"tries": "attempts", "kept_try": "kept_attempt", "failed_rules_by_try": "failed_rules_by_attempt"}
RENAMED_ACCEPTANCE |= {
    "refused_tries": "near_duplicates",
    "tidied_ml": "postprocessing_ml",
    "control": "volume_matching",
}
RENAMED_KEYS: dict[str, str] = {
    "anatomy_tries": "anatomy_attempts",
    "motion_tries": "motion_attempts",
    "about": "metadata",
    "about.people": "metadata.n_subjects",
    "about.tries": "metadata.max_attempts",
    "about.closed_loop": "metadata.match_volumes",
    "measures": "metrics",
    "listings": "tables",
    "people": "subjects",
    "training_people": "training_subjects",
    "request.tries": "request.max_attempts",
    "request.control": "request.match_volumes",
    "sampling.anatomy": "sampling.anatomy_diffusion",
    "sampling.motion": "sampling.motion_diffusion",
    **{
        f"acceptance.{stage}.{old}": f"acceptance.{stage}.{new}"
        for stage in ("anatomy", "motion")
        for old, new in RENAMED_ACCEPTANCE.items()
    },
}
"""Keys of JSON, columns of tables and attributes of HDF5, or dotted parts of their paths: old to new, likewise."""
ANNOUNCED: dict[str, str] = {
    "*: *intensity.*": "a code instead of a sentence",
    "*: *orientation.*": "a code instead of a sentence",
    "evaluation: format": "keys under new names",
    "score: format": "keys under new names",
}
"""What differs on purpose: a pattern of `STEP: PATH` as the list of differences prints it, and the reason."""
VOLATILE = "seconds"
"""What is in the path of figures that differ from run to run."""
JUDGEMENTS = ("pass", "warn", "fail")
"""Texts of a JSON that are compared; the rest is prose."""
LINKS = (
    *("acdc/training/patient001", "acdc/training/patient002", "acdc/training/patient090"),
    *("mnms_edes/subjects.csv", "mnms_edes/A_A2C0I1", "mnms_edes/A_A7D9L8"),
    *("najman4d/subjects.csv", "najman4d/Pat03", "scd"),
)
"""Subjects of `CINE_DATA` that are ingested: few, of at most 12 slices, from every kind of source."""
Leaves = dict[str, object]
"""What a step wrote, flat: the path of each array, number or text, with new names."""


@dataclass(frozen=True)
class Step:
    """One row of the table: what is run in the work folder, and what is read from it.

    The commands write into a folder called ``name``; ``needs`` are the steps whose folders they read.
    """

    name: str
    commands: tuple[str, ...]
    read: Callable[[Path], Leaves]
    needs: tuple[str, ...] = ()
    real: bool = False
    """Whether it ingests subjects of `CINE_DATA`."""


# --- What is compared


def renamed(path: str, table: Mapping[str, str]) -> str:
    """A dotted path with all old names of ``table`` replaced, each once."""
    if not table:
        return path
    old = "|".join(re.escape(name) for name in sorted(table, key=len, reverse=True))
    return re.sub(rf"(?<![^./])({old})(?![^./])", lambda match: table[match[1]], path)


def named(found: Iterable[tuple[str, object]], table: Mapping[str, str]) -> Leaves:
    """Leaves under their new names; `SystemExit` where two of them would share one."""
    leaves: Leaves = {}
    for path, value in found:
        if (name := renamed(path, table)) in leaves:
            raise SystemExit(f"two paths become {name}, one is {path}: give the table a longer part of it")
        leaves[name] = value
    return leaves


def flat(tree: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every leaf of a JSON with its dotted path."""
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree


def figures(tree: object) -> Iterator[tuple[str, object]]:
    """The leaves of a JSON that are no prose and do not differ from run to run."""
    for path, value in flat(tree):
        if (not isinstance(value, str) or value in JUDGEMENTS) and VOLATILE not in path:
            yield path, value


def one_of(folder: Path, *names: str) -> Path:
    """The file that ``folder`` has, under its new or its old name."""
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise FileNotFoundError(f"{folder} has none of {', '.join(names)}")
    return found[0]


def read_json(path: Path) -> Leaves:
    return named(figures(json.loads(path.read_text(encoding="utf-8"))), RENAMED_KEYS)


def read_table(path: Path, key: str) -> Leaves:
    """Every cell of a CSV, by the row's ``key`` and the column."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return named(((f"{row[key]}.{column}", cell) for row in rows for column, cell in row.items()), RENAMED_KEYS)


def read_h5(path: Path) -> Leaves:
    """Every array and attribute of an HDF5 file; an attribute that is JSON is taken apart."""

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            found.append((name, item[()]))
        for key, value in item.attrs.items():
            is_json = isinstance(value, str) and value.startswith(("{", "["))
            found.extend(flat(json.loads(value) if is_json else value, f"{name}@.{key}"))

    found: list[tuple[str, object]] = []
    with h5py.File(path, "r") as file:
        visit("", file)
        file.visititems(visit)
    return named(found, RENAMED_KEYS)


def within(name: str, leaves: Leaves) -> Leaves:
    return {f"{name}/{path}": value for path, value in leaves.items()}


def read_case(folder: Path) -> Leaves:
    """Voxels, affine and time step of image and label, and the figures of the sidecar: ED, ES, volumes, attempts."""
    leaves = read_json(folder / "case.json")
    for name in ("image", "label"):
        volume = nibabel.Nifti1Image.from_filename(folder / f"{name}.nii.gz")
        leaves |= {f"{name}.voxels": np.asanyarray(volume.dataobj), f"{name}.affine": volume.affine}
        leaves[f"{name}.pixdim"] = np.array(volume.header["pixdim"])
    return leaves


def read_cohort(folder: Path) -> Leaves:
    leaves = within("table", read_table(one_of(folder, "cohort.csv", "manifest.csv"), "case"))
    for case in sorted(path.parent for path in folder.glob("*/case.json")):
        leaves |= within(case.name, read_case(case))
    return leaves


def read_studies(folder: Path) -> Leaves:
    """The table of a dataset and every study."""
    leaves = within("table", read_table(one_of(folder, "dataset.csv", "manifest.csv"), "subject"))
    for path in sorted(folder.glob("studies/*.h5")):
        leaves |= within(path.stem, read_h5(path))
    return leaves


def read_prepared(folder: Path) -> Leaves:
    """A dataset, and what it became on each grid; the hash in a grid's file name is that of the table."""
    leaves = read_studies(folder)
    for path in sorted(folder.glob("grids/*.h5")):
        leaves |= within(path.stem.rpartition("_")[0], read_h5(path))
    return leaves


def read_tensors(folder: Path) -> Leaves:
    """The tensors of every stage in a run or weights folder."""
    leaves: Leaves = {}
    for path in sorted(folder.glob("*.safetensors")):
        leaves |= within(renamed(path.stem, RENAMED_STAGES), named(load_file(path).items(), RENAMED_TENSORS))
    return leaves


def read_run(folder: Path) -> Leaves:
    """The tensors of every stage, and the losses and scores on the way."""
    leaves = read_tensors(folder)
    for path in sorted(folder.glob("*/metrics.jsonl")):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        leaves |= within(f"{renamed(path.parent.name, RENAMED_STAGES)}/metrics", named(figures(lines), RENAMED_KEYS))
    return leaves


def read_weights(folder: Path) -> Leaves:
    return read_tensors(folder) | within("prior", read_json(folder / "prior.json"))


def read_report(folder: Path) -> Leaves:
    return read_json(folder / "report.json")


# --- What is run


PHANTOMS = "ingest phantom --seed 0 --workers 1"
CASE = "generate --seed 7 --no-pictures"
SMALL = f"{CASE} --weights small --diagnosis DCM --edv 220 --ef 30 --slices 8 --frames 5"
COMPACT = f"{CASE} --weights compact --diagnosis NOR --edv 130 --ef 58 --slices 7 --frames 3 --tries 1"
FURTHER = "--rv-edv 140 --mass 100 --vendor Siemens"
STAGES = ("vae", "motion", "anatomy", "dynamics", "segmenter")
SHORT = (
    "training.vae.losses={adversarial: 0.1, perceptual: 0.1, spectrum: 0.1, adversarial_start_step: 1}",
    "training.decoder={steps: 2, batch_size: 2, losses: {adversarial: 0.1, perceptual: 0.1}}",
    *(f"training.{stage}.steps=3" for stage in STAGES),
    *(f"training.{stage}.validate_every_steps=2" for stage in STAGES),
    *("training.anatomy.affine_copies=1", "training.dynamics.affine_copies=0", "training.segmenter.augment=true"),
)
PAPER = (
    *("vae.kernel=3d", "vae.norm=group", "vae.separate_decoders=true", "motion.harmonics=0"),
    *("anatomy.denoiser.conditioning=cross_attention", "anatomy.diffusion.objective=noise"),
    *("dynamics.denoiser.conditioning=cross_attention", "dynamics.diffusion.objective=v"),
    *("dynamics.diffusion.time_shift=1.0", "dynamics.denoiser.slice_attention=true"),
    "conditions=[diagnosis, lv_edv_ml, lv_esv_ml, slices, rv_edv_ml, rv_esv_ml, myo_mass_g, vendor]",
)
"""The paper's choices at the size of `smoke`: one residual a frame, cross-attention, noise and v."""


def training(verb: str, run: str, settings: Sequence[str]) -> str:
    return f"train {verb} --data hearts --run {run} --preset smoke " + " ".join(f"--set '{s}'" for s in settings)


STEPS = (
    Step("case-small", (f"{SMALL} --out case-small",), read_case),
    Step("case-small-open", (f"{SMALL} --no-control --out case-small-open",), read_case),
    Step("case-compact", (f"{COMPACT} {FURTHER} --out case-compact",), read_case),
    Step("case-compact-open", (f"{COMPACT} {FURTHER} --no-control --out case-compact-open",), read_case),
    Step("cohort", (f"{CASE} --count 4 --frames 4 --tries 1 --weights small --out cohort",), read_cohort),
    Step("phantoms", (f"{PHANTOMS} --subjects 4 --out phantoms", "prepare --data phantoms"), read_prepared),
    Step(
        "subjects",
        (
            "ingest acdc cine/acdc --out subjects --workers 1",
            "ingest nifti cine/mnms_edes --layout mnms_edes --out subjects --workers 1",
            "ingest nifti cine/najman4d --layout najman4d --out subjects --workers 1",
            "ingest scd cine/scd --out subjects --workers 1",
            "prepare --data subjects",
        ),
        read_prepared,
        real=True,
    ),
    Step("hearts", (f"{PHANTOMS} --subjects 20 --frames 6 --out hearts",), read_studies),
    Step("training", (training("all", "training", SHORT),), read_run, needs=("hearts",)),
    Step("training-paper", (training("all", "training-paper", (*SHORT, *PAPER)),), read_run, needs=("hearts",)),
    Step("segmenter", (training("segmenter", "segmenter", SHORT),), read_run, needs=("hearts",)),
    Step("weights", ("bundle training --data hearts --out weights",), read_weights, needs=("training", "hearts")),
    Step(
        "evaluation",
        (
            "evaluate --real hearts --synthetic cohort --weights small --segmenter segmenter --workers 1 "
            "--out evaluation",
        ),
        read_report,
        needs=("hearts", "cohort", "segmenter"),
    ),
    Step(
        "score",
        ("score --data hearts --weights small --count 2 --frames 2 --workers 1 --out score/report.json",),
        read_report,
        needs=("hearts",),
    ),
)
