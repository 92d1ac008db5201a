"""The report of a study: tables, plots, the worst cases, and words that a paper can quote."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cinesynth import __version__
from cinesynth.io.files import make_folder, write_json, write_text
from cinesynth.study.figures import draw_gains, draw_worst
from cinesynth.study.metrics import COLUMNS, MEAN, METRICS, Effect, Results
from cinesynth.study.run import StudyRun
from cinesynth.study.runs import BASELINE, Arm, arms_of, cells_of
from cinesynth.study.spec import MixSpec, NnunetSpec, StudySpec, UNetSpec
from cinesynth.study.subjects import name_of

PAGE, JSON = "study.md", "results.json"
HEADER = (
    "arm",
    *(f"Dice {column}" for column in COLUMNS),
    "HD95 mm",
    "ASSD mm",
    "Dice change, points",
    "HD95 change, mm",
    "seeds",
)
EMPTY = "-"


def write_report(run: StudyRun, command: str) -> Path:
    """Write ``study.md``, its pictures and ``results.json`` of the cells that are finished; returns the page."""
    results, out = run.results(), make_folder(run.out)
    write_json(out / JSON, to_json(run, results))
    pictures = [*draw_gains(run.spec, results, out), *draw_worst(run, results, out)]
    lines = ["# Does it help?", "", *_state(run, results), "", "## The claim", "", *claim_lines(run.spec, results), ""]
    for group in run.spec.tests:
        lines += [f"## {_title(run, group)}", ""]
        for people in run.spec.people:
            lines += [*table(run.spec, results, group, people), ""]
    lines += ["## Pictures", "", *(f"![{path.stem}]({path.name})" for path in pictures), ""]
    lines += ["## Methods", "", methods(run), "", "## Again", "", "```bash", command, "```"]
    write_text(out / PAGE, "\n".join(lines) + "\n")
    return out / PAGE


def claim_lines(spec: StudySpec, results: Results) -> Iterator[str]:
    """A line each for unseen vendors: what the judged ratio gains, and whether the paper's claim holds."""
    arm = f"x{spec.judged_ratio:g}"
    for group in [name for name, tested in spec.tests.items() if tested.unseen]:
        for people in spec.people:
            for claim in CLAIMS:
                found = results.gain(group, people, arm, BASELINE, claim.metric).get(claim.column)
                if found is None:
                    continue
                yield (
                    f"- {group}, {people} labelled: {claim.title} {claim.told(found)} with {spec.judged_ratio:g} x "
                    f"generated ({found.persons} persons, {found.seeds} seeds); the paper says "
                    f"{claim.amount:+g} {claim.unit}: **{claim.verdict(found)}**"
                )


def table(spec: StudySpec, results: Results, group: str, people: int | str) -> Iterator[str]:
    """A group with so many labelled people: a row an arm; changes are from real people with augmentation."""
    yield f"| {people} labelled: {' | '.join(HEADER)} |"
    yield f"|---{'|---' * (len(HEADER) - 1)}|"
    for arm in arms_of(spec):
        yield f"| {' | '.join(_row(results, group, people, arm))} |"


def _row(results: Results, group: str, people: int | str, arm: Arm) -> list[str]:
    means = {metric: results.mean(group, people, arm.name, metric) for metric in METRICS}
    gains = {metric: {} if arm.name == BASELINE else _gain(results, group, people, arm, metric) for metric in METRICS}
    cells = [arm.title, *(_number(means["dice"].get(column), 3) for column in COLUMNS)]
    cells += [_number(means[metric].get(MEAN), 1) for metric in ("hd95_mm", "assd_mm")]
    cells += [_interval(gains["dice"].get(MEAN), 100.0), _interval(gains["hd95_mm"].get(MEAN), 1.0)]
    return [*cells, str(len(results.seeds(people, [arm.name])))]


def _gain(results: Results, group: str, people: int | str, arm: Arm, metric: str) -> dict[str, Effect]:
    return results.gain(group, people, arm.name, BASELINE, metric)


def to_json(run: StudyRun, results: Results) -> dict[str, Any]:
    """Everything that the page says, and what it is made of."""
    spec, arms = run.spec, arms_of(run.spec)
    found = [
        {
            "group": group,
            "people": people,
            "arm": arm.name,
            "metric": metric,
            "mean": _plain(mean),
            "gain": _plain(gain),
        }
        for group in spec.tests
        for people in spec.people
        for arm in arms
        for metric in METRICS
        if (mean := results.mean(group, people, arm.name, metric))
        for gain in [_gain(results, group, people, arm, metric) if arm.name != BASELINE else {}]
    ]
    return {
        "cinesynth": __version__,
        "spec": spec.model_dump(mode="json", exclude={"data"}),
        "data_hash": run.people.data_hash,
        "people": {"train": _names(run.people.train), **{g: _names(r) for g, r in run.people.tests.items()}},
        "cells": {"finished": len(results.found), "all": len(list(cells_of(spec)))},
        "found": found,
    }


def methods(run: StudyRun) -> str:
    """A paragraph for a paper."""
    spec, people = run.spec, run.people
    sizes = ", ".join(str(len(people.labelled(count))) for count in spec.people)
    groups = "; ".join(f"{name} ({len(rows)} persons)" for name, rows in people.tests.items())
    network = _network(spec.engine)
    generator = spec.generator
    others = " and, without labels, on all others of the group" if generator.unlabelled else ""
    others += f" and {generator.phantoms} analytic hearts" if generator.phantoms else ""
    others += f", from the weights {Path(generator.initial).name} of analytic hearts on" if generator.initial else ""
    return (
        f"Segmentation networks ({network}) were trained on {sizes} labelled people of {len(people.train)} available, "
        "with standard augmentation, with and without generated hearts. For each number of labelled people a generator "
        f"(cinesynth {__version__}, preset {generator.preset}{_changes(generator.set)}) was trained on them"
        f"{others}; it drew hearts from the joint distribution of their volumes, {spec.cohort.frames} frames each, in "
        f"ratios of {', '.join(f'{ratio:g}' for ratio in spec.ratios)} to the labelled people{_mixed(spec.mix)}. All "
        "networks of a study were trained for the same number of steps and none was selected on any test person. They "
        f"were tested on {groups}, none of whom either network had seen, at ED and ES in the scanner's voxels: Dice, "
        "95 % Hausdorff distance and average symmetric surface distance, a structure that was missed counting as Dice "
        f"0 and as far as the annotated stack is long. Means are over persons and {len(spec.seeds)} seeds; intervals "
        "of 95 % are from a bootstrap over both, differences paired by person and seed."
    )


def _mixed(mix: MixSpec) -> str:
    """How the hearts came to the segmenters, as far as it is worth a word."""
    kept = f"the {100 * mix.agreeing:g} % in which a segmenter of the labelled people saw the most of the masks"
    said = [f"; of those that were accepted {kept} were kept"] if mix.agreeing < 1.0 else []
    said += ["; they were set into the surroundings of the labelled people"] if mix.surroundings else []
    said += [f"; {100 * mix.people_share:g} % of the frames were people's"] if mix.people_share else []
    return "".join(said)


def _network(engine: UNetSpec | NnunetSpec) -> str:
    if isinstance(engine, UNetSpec):
        return f"a 2D U-Net (MONAI; preset {engine.preset}{_changes(engine.set)})"
    mirrored = "predictions mirrored" if engine.mirror else "predictions not mirrored"
    return (
        f"nnU-Net v2 ({engine.configuration}, planned on the labelled people for {engine.memory_gb:g} GB, "
        f"{engine.epochs} epochs of {engine.iterations} iterations, {mirrored})"
    )


def _state(run: StudyRun, results: Results) -> list[str]:
    total = len(list(cells_of(run.spec)))
    return [f"{len(results.found)} of {total} cells are finished. Data {run.people.data_hash[:12]}."]


def _title(run: StudyRun, group: str) -> str:
    unseen = ", a vendor nobody learned from" if run.spec.tests[group].unseen else ""
    return f"{group}: {len(run.people.tests[group])} persons{unseen}"


def _changes(settings: Sequence[str]) -> str:
    return f", {', '.join(settings)}" if settings else ""


def _names(rows: Sequence[Any]) -> list[str]:
    return [name_of(row) for row in rows]


def _plain(effects: dict[str, Effect]) -> dict[str, Any]:
    return {column: effect.to_json() for column, effect in effects.items()}


def _number(found: Effect | None, digits: int) -> str:
    return EMPTY if found is None else f"{found.value:.{digits}f}"


def _interval(found: Effect | None, factor: float) -> str:
    if found is None:
        return EMPTY
    value, low, high = (factor * x for x in (found.value, found.low, found.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


# --- What the paper says of its hearts, beside what a study found ----------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """A gain over real people with standard augmentation; ``sign`` is 1 where more is better."""

    title: str
    metric: str
    column: str
    amount: float
    unit: str
    factor: float
    """From the metric to the unit."""
    sign: int

    def verdict(self, found: Effect) -> str:
        """Whether the claim holds: what was found reaches it, and its interval is on one side of nothing."""
        if math.isnan(found.value):
            return "not known"
        low, high = sorted((self.sign * found.low, self.sign * found.high))
        if low > 0:
            enough = self.sign * self.factor * found.value >= abs(self.amount)
            return "holds" if enough else "helps, by less than claimed"
        if high < 0:
            return "harms"
        return "no effect is shown"

    def told(self, found: Effect) -> str:
        """The finding in the claim's unit, with its interval."""
        value, low, high = (self.factor * x for x in (found.value, found.low, found.high))
        return f"{value:+.1f} [{low:+.1f}, {high:+.1f}] {self.unit}"


CLAIMS = (
    Claim("mean Dice", "dice", "mean", 1.4, "points", 100.0, 1),
    Claim("mean HD95", "hd95_mm", "mean", -3.0, "mm", 1.0, -1),
    Claim("LV Dice", "dice", "LV", 2.8, "points", 100.0, 1),
    Claim("LV HD95", "hd95_mm", "LV", -5.4, "mm", 1.0, -1),
)
