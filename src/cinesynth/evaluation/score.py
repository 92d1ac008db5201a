"""Score weights on held-out patients: generate what these have, and evaluate it with a preset of sections.

The preset: reconstruction, control, three limits of motion, and near-copies in image and mask; besides, what the code
of a cycle keeps, and the time per case. `evaluate` looks closer, at a cohort that is already generated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from cinesynth import __version__
from cinesynth.data.geometry import Grid
from cinesynth.data.packed import PackedDataset, prepare
from cinesynth.errors import InputError
from cinesynth.evaluation.agreement import agree
from cinesynth.evaluation.cases import patients
from cinesynth.evaluation.generation import MEASURERS, GeneratedHearts, generate, requests_of
from cinesynth.evaluation.held_out import real_sets
from cinesynth.evaluation.measure import Measured, measure, stack_measured
from cinesynth.evaluation.memorisation import search
from cinesynth.evaluation.reconstruction import (
    CYCLE_FIGURES,
    CycleScore,
    FrameScore,
    codec_scores,
    score_codec,
    score_cycles,
    summary,
)
from cinesynth.evaluation.section import Metric, Table
from cinesynth.evaluation.temporal import MOTION_LIMITS, within_limit
from cinesynth.io.files import write_text
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.memorisation.nearest import IMAGE, MASK, Space
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.types import Precision
from cinesynth.weights.scores import FORMAT

HELD_OUT = ("validation", "test")
MOTION = ("closure", "background_temporal_sd", "roughness")
"""Quantities of `MOTION_LIMITS` that are scored."""
GROUPED = ("PSNR", "SSIM", "Dice LV", "Dice MYO", "Dice RV", "LV volume |error|", "sharpness")
"""Figures of the codec that are shown by dataset and vendor."""


# --- Comparing with real subjects ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NearCopies:
    """Near-copies of training subjects in one space; the rate is None where it cannot be known, and ``why`` says so."""

    space: str
    hearts: int
    copies: int | None
    rate: float | None
    limit: float | None
    """The closeness below which a heart is a near-copy."""
    training_subjects: int
    why: str = ""


def compare_hearts(
    hearts: GeneratedHearts, train: PackedDataset, held: PackedDataset, workers: int | None, progress: ProgressCallback
) -> tuple[list[Metric], list[NearCopies]]:
    """Motion beside real whole cycles, and near-copies of training subjects; ``train`` may be empty."""

    def real(data: PackedDataset, title: str) -> Measured:
        return measure(patients(data, title), MEASURERS, workers=workers, progress=progress)

    made = stack_measured("synthetic", [f"case {i}" for i in range(len(hearts.rows))], MEASURERS, hearts.rows)
    others = real(held, "held-out")
    known = real(train, "train") if train.records else others.where([], "train")
    metrics = [within_limit(limit, (known, others, made)) for limit in MOTION_LIMITS if limit.quantity in MOTION]

    def near_copies(space: Space) -> NearCopies:
        if not len(known):
            return NearCopies(space.name, len(made), None, None, None, 0, "the dataset has no subjects in training")
        found = search(space, made, known, others)
        count = len(found.synthetic.known)
        if found.missing:
            return NearCopies(space.name, count, None, None, None, len(known), found.missing)
        return NearCopies(space.name, count, found.copies, found.copies / count, found.limit, len(known))

    return metrics, [near_copies(IMAGE), near_copies(MASK)]


# --- The report ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScoreReport:
    """What was measured, and on what."""

    metadata: dict[str, Any]
    frames: list[FrameScore] = field(default_factory=list)
    hearts: GeneratedHearts = field(default_factory=GeneratedHearts)
    motion: Sequence[Metric] = ()
    copies: Sequence[NearCopies] = ()
    cycles: Sequence[CycleScore] = ()

    def tables(self) -> Iterator[Table]:
        """The figures to print."""
        codec, split, hearts = codec_scores(self.frames), self.metadata["split"], self.hearts
        rows: list[Sequence[object]] = [
            (f"{f['name']} {f['unit']}".strip(), f["mean"], f["median"], f["sd"], f["count"])
            for f in codec["all"]["figures"].values()
        ]
        caption = f"codec on {codec['all']['subjects']} {split} patients, ED and ES"
        yield Table(caption, ("", "mean", "median", "SD", "frames"), rows)
        for kind in ("dataset", "vendor"):
            if len(groups := codec[f"{kind}s"]) > 1:
                rows = [(n, g["subjects"], *(g["figures"][f]["mean"] for f in GROUPED)) for n, g in groups.items()]
                caption = f"codec on {split} patients, means by {kind} (structures: Dice)"
                yield Table(
                    caption, (kind, "subjects", "PSNR", "SSIM", "LV", "MYO", "RV", "LV err %", "sharp dB"), rows
                )
        if self.cycles:
            rows = [(c.subject, c.frames, *(getattr(c, name) for name in CYCLE_FIGURES)) for c in self.cycles]
            caption = "the code of a cycle, compared with the codec's own frames"
            figures = "PSNR codec", "with code", "from ED, ES", "LV RMSE % of EDV", "of ED, ES"
            yield Table(caption, ("whole cycle of", "frames", *figures), rows)
        mode = "volumes matched" if self.metadata["match_volumes"] else "volumes not matched"
        caption = f"control over {len(hearts.seconds)} cases ({mode}), {hearts.accepted} accepted"
        caption += f", {median(hearts.seconds):.2g} s a case" if hearts.seconds else ""
        rows = [(a.quantity, a.r, a.slope, a.bias, a.mae, a.count) for a in agree(hearts.pairs)]
        yield Table(caption, ("", "Pearson r", "slope", "bias", "MAE", "cases"), rows)
        if self.motion:
            rows = [(m.name, m.value, m.floor, m.count, m.judgement, m.missing) for m in self.motion]
            yield Table("motion, median", ("", "generated", "real", "hearts", "verdict", "why not"), rows)
        if self.copies:
            rows = [(c.space, c.rate, c.copies, c.hearts, c.training_subjects, c.why) for c in self.copies]
            columns = ("near-copies by", "rate", "copies", "hearts", "subjects in training", "why not")
            yield Table("memorisation", columns, rows)

    def to_json(self) -> dict[str, Any]:
        """Everything, in the form that `weights compare` reads."""
        hearts, cases = self.hearts, len(self.hearts.seconds)
        rate = hearts.accepted / cases if cases else None
        return {
            "format": FORMAT,
            "metadata": self.metadata,
            "codec": codec_scores(self.frames),
            "control": {a.quantity: asdict(a) for a in agree(hearts.pairs)},
            "accepted": {"cases": cases, "accepted": hearts.accepted, "rate": rate},
            "temporal": {m.name: asdict(m) for m in self.motion},
            "memorisation": {c.space: asdict(c) for c in self.copies},
            "cycles": summary(self.cycles),
            "seconds_per_case": median(hearts.seconds) if hearts.seconds else None,
            "rows": {
                "frames": [asdict(f) for f in self.frames],
                "cycles": [asdict(c) for c in self.cycles],
                "pairs": [asdict(p) for p in hearts.pairs],
                "seconds": hearts.seconds,
            },
        }

    def write(self, path: Path) -> None:
        """Everything as JSON."""
        write_text(path, json.dumps(self.to_json(), indent=1))


def score_bundle(
    data: Path,
    weights: Path | str | None,
    *,
    split: str,
    count: int,
    seed: int,
    progress: ProgressCallback = no_progress,
    match_volumes: bool = True,
    max_attempts: int = 3,
    frames: int = 30,
    precision: Precision = "auto",
    workers: int | None = None,
) -> ScoreReport:
    """Score weights on the patients of a held-out split; its phantoms where it has no patients.

    Reconstructs their ED and ES frames, and generates ``count`` hearts of ``frames`` frames for what they have.
    """
    if split not in HELD_OUT:
        raise InputError(f"split {split!r} is not held out", hint=f"one of {', '.join(HELD_OUT)}")
    pipe = CinePipeline.from_pretrained(weights, device="cpu", precision=precision)
    dataset = prepare(data, Grid.from_config(pipe.bundle.config.grid), progress)
    info, grid = pipe.bundle.info, pipe.grid
    sets = real_sets(dataset, split, pipe.bundle.fingerprints, info.get("data_hash"))
    held, train = sets.held_out, sets.train
    if not held.records:
        raise InputError(
            f"the {split} split of {data} has no subjects that these weights have not seen",
            hint="ingest more subjects",
        )
    reconstructed = score_codec(pipe.bundle.codec, held, progress, workers, pipe.bundle.texture)
    cycles = score_cycles(pipe.bundle.codec, pipe.bundle.residual_motion, held, progress, workers)
    settings = {"frames": frames, "max_attempts": max_attempts, "match_volumes": match_volumes}
    requests = requests_of(held, count, seed, pipe.condition_set, pipe.prior, **settings) if count else []
    hearts = generate(pipe, requests, progress)
    compared = compare_hearts(hearts, train, held, workers, progress) if requests else ([], [])
    metadata = {  # what was scored, on whom and where: enough to do it again
        "split": split,
        "subjects": [record.subject for record in held.records],
        "n_subjects": len(held.records),
        "moved_to_training": list(sets.moved),
        "data_hash": held.data_hash,
        "weights": pipe.bundle_sha256,
        "trained_on": info.get("datasets"),
        "same_data_as_training": held.data_hash == info.get("data_hash"),
        "grid": {"size": list(grid.size), "spacing_mm": list(grid.spacing_mm)},
        "versions": {"cinesynth": __version__, "torch": str(torch.__version__)},
        "machine": {
            "device": pipe.device.type,
            "precision": pipe.bundle.precision,
            "threads": torch.get_num_threads(),
        },
        "cases": count,
        "seed": seed,
        "frames_per_case": frames,
        "match_volumes": match_volumes,
        "max_attempts": max_attempts,
    }
    return ScoreReport(metadata, reconstructed, hearts, *compared, cycles)
