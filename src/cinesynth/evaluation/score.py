"""One command's figures for a weights folder: the codec's ceiling, and control."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cinesynth.atomic import write_text
from cinesynth.data.geometry import Grid
from cinesynth.data.packed import prepare
from cinesynth.data.phantom import PHANTOM
from cinesynth.errors import InputError
from cinesynth.evaluation.agreement import Agreement, agree
from cinesynth.evaluation.codec import FrameScore, score_codec
from cinesynth.evaluation.requests import ControlResult, requests_of, score_control
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.types import STRUCTURES

HELD_OUT = ("validation", "test")
Step = Callable[[str, int, int, dict[str, float]], None]
Summary = tuple[str, float | None, float | None, float | None, int]
"""Name, mean, median, SD and count; unknown figures where nothing was annotated."""


@dataclass(frozen=True)
class Table:
    """Columns and rows to print."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class ScoreReport:
    """What was measured, and on what."""

    about: dict[str, Any]
    frames: list[FrameScore]
    agreements: list[Agreement]
    control: ControlResult

    def tables(self) -> dict[str, Table]:
        """The figures for people."""
        subjects = len({f.subject for f in self.frames})
        title = f"codec on {subjects} {self.about['split']} patients, ED and ES"
        loop = "closed" if self.about["closed_loop"] else "open"
        control = f"{loop}-loop control over {self.control.cases} cases, {self.control.accepted} accepted"
        return {title: _codec_table(self.frames), control: _control_table(self.agreements)}

    def write(self, path: Path) -> None:
        """Everything as JSON."""
        content = {
            "about": self.about,
            "codec": [asdict(f) for f in self.frames],
            "agreements": [asdict(a) for a in self.agreements],
            "control": asdict(self.control),
        }
        write_text(path, json.dumps(content, indent=1))


def score_bundle(
    data: Path, weights: Path | None, *, split: str, count: int, seed: int, progress: Step, control: bool = True
) -> ScoreReport:
    """Score weights on the patients of a held-out split: phantoms are left out where there are patients."""
    if split not in HELD_OUT:
        raise InputError(f"split {split!r} is not held out", hint=f"one of {', '.join(HELD_OUT)}")
    pipe = CinePipeline.from_pretrained(weights, device="cpu")
    held = prepare(data, Grid.from_config(pipe.bundle.config.grid)).split(split)
    real = [record.dataset != PHANTOM for record in held.records]
    held = held.where(real) if any(real) else held
    if not held.records:
        raise InputError(f"the {split} split of {data} is empty", hint="ingest more subjects")
    frames = score_codec(pipe.bundle.codec, held, lambda done, total: progress("codec", done, total, {}))
    requests = requests_of(held, count, seed, pipe.told, control=control) if count else []
    result = score_control(pipe, requests, lambda done, total: progress("control", done, total, {}))
    about = {
        "split": split,
        "subjects": [record.subject for record in held.records],
        "data_hash": held.data_hash,
        "weights": pipe.bundle_sha256,
        "trained_on": pipe.bundle.info.get("datasets"),
        "same_data_as_training": held.data_hash == pipe.bundle.info.get("data_hash"),
        "seed": seed,
        "closed_loop": control,
    }
    return ScoreReport(about, frames, agree(result.pairs), result)


def _codec_table(frames: list[FrameScore]) -> Table:
    rows: list[Summary] = []
    for structure in reversed(STRUCTURES):
        rows.append(
            _summary(f"Dice {structure.name}", [f.dice[structure.name] for f in frames if structure.name in f.dice])
        )
    for structure in reversed(STRUCTURES):
        distances = [f.hd95_mm[structure.name] for f in frames if structure.name in f.hd95_mm]
        rows.append(_summary(f"HD95 {structure.name} mm", distances))
    rows.append(_summary("PSNR dB", [f.psnr_db for f in frames]))
    rows.append(_summary("SSIM", [f.ssim for f in frames]))
    rows.append(_summary("LV volume |error| %", [abs(f.lv_error_percent) for f in frames if f.lv_ml > 0]))
    return Table(("", "mean", "median", "SD", "frames"), rows)


def _summary(name: str, values: list[float]) -> Summary:
    if not values:
        return name, None, None, None, 0
    array = np.array(values)
    return name, float(array.mean()), float(np.median(array)), float(array.std()), len(array)


def _control_table(agreements: list[Agreement]) -> Table:
    rows = [(a.quantity, a.r, a.slope, a.bias, a.mae, a.count) for a in agreements]
    return Table(("", "Pearson r", "slope", "bias", "MAE", "cases"), rows)
