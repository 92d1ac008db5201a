"""One command's figures for a weights folder: the codec's ceiling, control, motion, near-copies and time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from cinesynth import __version__
from cinesynth.data.geometry import Grid
from cinesynth.data.packed import PackedDataset, prepare
from cinesynth.errors import InputError
from cinesynth.evaluation.agreement import Agreement, agree
from cinesynth.evaluation.cases import without_phantoms
from cinesynth.evaluation.codec import FrameScore, score_codec
from cinesynth.evaluation.codec_scores import CodecScores, CycleScore, Group, score_cycles, summary
from cinesynth.evaluation.requests import ControlResult, requests_of, score_control
from cinesynth.evaluation.score_hearts import Hearts, HeartScores, score_hearts
from cinesynth.io.files import write_text
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.weights.comparison import FORMAT

HELD_OUT = ("validation", "test")
FRAMES = 30
"""Of a generated heart, unless others are asked for: a whole cycle."""
GROUP_FIGURES = {
    "PSNR": "PSNR",
    "SSIM": "SSIM",
    "Dice LV": "LV",
    "Dice MYO": "MYO",
    "Dice RV": "RV",
    "LV volume |error|": "LV err %",
}
"""What is printed of each dataset and vendor, and its heading; the bare structures are Dice."""
CYCLES = "the code of a cycle, beside the codec's own frames"
CYCLE_FIGURES = {
    "psnr_codec": "PSNR codec",
    "psnr_code": "with code",
    "psnr_ends": "from ED, ES",
    "rmse_code": "LV RMSE % of EDV",
    "rmse_ends": "of ED, ES",
}
Step = Callable[[str, int, int, dict[str, float]], None]


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
    hearts: HeartScores = field(default_factory=HeartScores)
    cycles: Sequence[CycleScore] = ()

    def tables(self) -> dict[str, Table]:
        """The figures for people."""
        return dict(self._tables())

    def _tables(self) -> Iterator[tuple[str, Table]]:
        codec, split = CodecScores.of(self.frames), self.about["split"]
        yield f"codec on {codec.all.people} {split} patients, ED and ES", _codec_table(codec.all)
        groups = {"dataset": codec.datasets, "vendor": codec.vendors}
        for name, found in groups.items():
            if len(found) > 1:
                yield f"codec on {split} patients, means by {name} (structures: Dice)", _group_table(name, found)
        if self.cycles:
            kept = [(c.subject, c.frames, *(getattr(c, name) for name in CYCLE_FIGURES)) for c in self.cycles]
            yield CYCLES, Table(("whole cycle of", "frames", *CYCLE_FIGURES.values()), kept)
        loop = "closed" if self.about["match_volumes"] else "open"
        title = f"{loop}-loop control over {self.control.cases} cases, {self.control.accepted} accepted"
        if self.control.seconds:
            title += f", {median(self.control.seconds):.2g} s a case"
        yield title, _control_table(self.agreements)
        if self.hearts.temporal:
            rows = [(m.name, m.value, m.floor, m.count, m.judgement, m.missing) for m in self.hearts.temporal]
            yield "motion, median", Table(("", "generated", "people", "hearts", "verdict", "why not"), rows)
        if self.hearts.copies:
            rows_ = [(c.space, c.rate, c.copies, c.hearts, c.training_people, c.why) for c in self.hearts.copies]
            columns = ("near-copies by", "rate", "copies", "hearts", "people in training", "why not")
            yield "memorisation", Table(columns, rows_)

    def to_json(self) -> dict[str, Any]:
        """Everything, in the form that `gate` compares."""
        control, cases = self.control, self.control.cases
        rate = control.accepted / cases if cases else None
        return {
            "format": FORMAT,
            "metadata": self.about,
            "codec": CodecScores.of(self.frames).to_json(),
            "control": {a.quantity: asdict(a) for a in self.agreements},
            "accepted": {"cases": cases, "accepted": control.accepted, "rate": rate},
            **self.hearts.to_json(),
            "cycles": summary(self.cycles),
            "seconds_per_case": median(control.seconds) if control.seconds else None,
            "rows": {
                "frames": [asdict(f) for f in self.frames],
                "cycles": [asdict(c) for c in self.cycles],
                "pairs": [asdict(p) for p in control.pairs],
                "seconds": list(control.seconds),
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
    progress: Step,
    control: bool = True,
    tries: int = 3,
    frames: int = FRAMES,
    workers: int | None = None,
) -> ScoreReport:
    """Score weights on the patients of a held-out split: phantoms are left out where there are patients.

    Reconstructs their ED and ES frames, and generates ``count`` hearts of ``frames`` frames for what they had.
    """
    if split not in HELD_OUT:
        raise InputError(f"split {split!r} is not held out", hint=f"one of {', '.join(HELD_OUT)}")
    pipe = CinePipeline.from_pretrained(weights, device="cpu")
    everybody = prepare(data, Grid.from_config(pipe.bundle.config.grid))
    held, train = (without_phantoms(everybody.split(name)) for name in (split, "train"))
    if not held.records:
        raise InputError(f"the {split} split of {data} is empty", hint="ingest more subjects")
    reconstructed = score_codec(pipe.bundle.codec, held, lambda done, total: progress("codec", done, total, {}))
    codec, motion = pipe.bundle.codec, pipe.bundle.residual_motion
    cycles = score_cycles(codec, motion, held, lambda done, total: progress("cycles", done, total, {}))
    asked = {"frames": frames, "match_volumes": control, "max_attempts": tries}
    requests = requests_of(held, count, seed, pipe.condition_set, **asked) if count else []
    hearts = Hearts()
    result = score_control(pipe, requests, lambda done, total: progress("control", done, total, {}), hearts.see)
    scores = score_hearts(hearts, train, held, workers, lambda name, done, total: progress(name, done, total, {}))
    settings = {"seed": seed, "frames_per_case": frames, "match_volumes": control, "max_attempts": tries}
    about = {"split": split, **_about(pipe, held), "cases": count, **settings}
    return ScoreReport(about, reconstructed, agree(result.pairs), result, scores, cycles)


def _about(pipe: CinePipeline, held: PackedDataset) -> dict[str, Any]:
    """What was scored, on whom and where: enough to do it again."""
    info, grid = pipe.bundle.info, pipe.grid
    return {
        "subjects": [record.subject for record in held.records],
        "n_subjects": len(held.records),
        "data_hash": held.data_hash,
        "weights": pipe.bundle_sha256,
        "trained_on": info.get("datasets"),
        "same_data_as_training": held.data_hash == info.get("data_hash"),
        "grid": {"size": list(grid.size), "spacing_mm": list(grid.spacing_mm)},
        "versions": {"cinesynth": __version__, "torch": str(torch.__version__)},
        "machine": {"device": pipe.device.type, "threads": torch.get_num_threads()},
    }


def _codec_table(group: Group) -> Table:
    rows = [(f"{f.name} {f.unit}".strip(), f.mean, f.median, f.sd, f.count) for f in group.figures]
    return Table(("", "mean", "median", "SD", "frames"), rows)


def _group_table(kind: str, groups: dict[str, Group]) -> Table:
    """One row a group: its people stand by themselves."""
    rows = []
    for name, group in groups.items():
        means = {figure.name: figure.mean for figure in group.figures}
        rows.append((name, group.people, *(means[figure] for figure in GROUP_FIGURES)))
    return Table((kind, "people", *GROUP_FIGURES.values()), rows)


def _control_table(agreements: list[Agreement]) -> Table:
    rows = [(a.quantity, a.r, a.slope, a.bias, a.mae, a.count) for a in agreements]
    return Table(("", "Pearson r", "slope", "bias", "MAE", "cases"), rows)
