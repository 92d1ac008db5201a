"""The report of a study: tables, figures, worst cases, comparison with the paper, and a methods paragraph."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cinesynth import __version__
from cinesynth.io.files import make_folder, write_json, write_text
from cinesynth.study.figures import draw_gains, draw_worst
from cinesynth.study.metrics import COLUMNS, MEAN, METRICS, Estimate, Results
from cinesynth.study.plan import BASELINE, Arm, arms_of, subject_name, training_runs
from cinesynth.study.run import StudyRun
from cinesynth.study.spec import MixSpec, NnunetSpec, StudySpec, UNetSpec

PAGE, JSON = "study.md", "results.json"
CHANGES = ("Dice change, points", "HD95 change, mm")
HEADER = ("arm", *(f"Dice {column}" for column in COLUMNS), "HD95 mm", "ASSD mm", *CHANGES, "seeds")


def write_report(run: StudyRun, command: str) -> Path:
    """Write the page, figures and ``results.json`` of the finished runs; ``command`` is how to repeat the study."""
    results, out = run.results(), make_folder(run.out)
    write_json(out / JSON, to_json(run, results))
    figures = [*draw_gains(run.spec, results, out), *draw_worst(run, results, out)]
    total = len(list(training_runs(run.spec)))
    lines = ["# Do generated hearts improve segmentation?", ""]
    lines += [f"{len(results.scores)} of {total} runs are finished. Data: {run.subjects.data_hash[:12]}.", ""]
    lines += ["## Comparison with the paper", "", *comparison_lines(run.spec, results), ""]
    for group, tested in run.spec.tests.items():
        unseen = ", an unseen vendor" if tested.unseen else ""
        lines += [f"## {group}: {len(run.subjects.tests[group])} subjects{unseen}", ""]
        for n_labelled in run.spec.n_labelled:
            lines += [*table(run.spec, results, group, n_labelled), ""]
    lines += ["## Figures", "", *(f"![{path.stem}]({path.name})" for path in figures), ""]
    lines += ["## Methods", "", methods(run), "", "## Reproduce", "", "```bash", command, "```"]
    write_text(out / PAGE, "\n".join(lines) + "\n")
    return out / PAGE


def comparison_lines(spec: StudySpec, results: Results) -> Iterator[str]:
    """One line per paper result for each unseen group: the gain at the primary ratio, and whether it agrees."""
    arm = f"x{spec.primary_ratio:g}"
    for group in [name for name, tested in spec.tests.items() if tested.unseen]:
        for n_labelled in spec.n_labelled:
            for paper in PAPER_RESULTS:
                gain = results.estimates(group, n_labelled, paper.metric, arm, BASELINE).get(paper.column)
                if gain is None:
                    continue
                yield (
                    f"- {group}, {n_labelled} labelled: {paper.title} {_interval(gain, paper.factor)} {paper.unit} "
                    f"with {spec.primary_ratio:g} x generated ({gain.subjects} subjects, {gain.seeds} seeds); "
                    f"the paper reports {paper.amount:+g} {paper.unit}: **{paper.verdict(gain)}**"
                )


def table(spec: StudySpec, results: Results, group: str, n_labelled: int | str) -> Iterator[str]:
    """The table of a group, one row per arm; changes are from real subjects with augmentation."""
    yield f"| {n_labelled} labelled: {' | '.join(HEADER)} |"
    yield f"|---{'|---' * (len(HEADER) - 1)}|"
    for arm in arms_of(spec):
        means = {metric: results.estimates(group, n_labelled, metric, arm.name) for metric in METRICS}
        gains = {metric: _gain(results, group, n_labelled, arm, metric) for metric in METRICS}
        cells = [arm.title, *(_number(means["dice"].get(column), 3) for column in COLUMNS)]
        cells += [_number(means[metric].get(MEAN), 1) for metric in ("hd95_mm", "assd_mm")]
        cells += [_interval(gains["dice"].get(MEAN), 100.0), _interval(gains["hd95_mm"].get(MEAN), 1.0)]
        yield f"| {' | '.join([*cells, str(len(results.seeds(n_labelled, [arm.name])))])} |"


def _gain(results: Results, group: str, n_labelled: int | str, arm: Arm, metric: str) -> dict[str, Estimate]:
    return {} if arm.name == BASELINE else results.estimates(group, n_labelled, metric, arm.name, BASELINE)


def _number(estimate: Estimate | None, digits: int) -> str:
    return "-" if estimate is None else f"{estimate.value:.{digits}f}"


def _interval(estimate: Estimate | None, factor: float) -> str:
    if estimate is None:
        return "-"
    value, low, high = (factor * x for x in (estimate.value, estimate.low, estimate.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def to_json(run: StudyRun, results: Results) -> dict[str, Any]:
    """All figures of the page, and the settings and subjects behind them."""
    spec, subjects = run.spec, run.subjects

    def plain(estimates: dict[str, Estimate]) -> dict[str, Any]:
        return {column: asdict(estimate) for column, estimate in estimates.items()}

    rows = [
        {
            "group": group,
            "n_labelled": n_labelled,
            "arm": arm.name,
            "metric": metric,
            "mean": plain(mean),
            "gain": plain(_gain(results, group, n_labelled, arm, metric)),
        }
        for group in spec.tests
        for n_labelled in spec.n_labelled
        for arm in arms_of(spec)
        for metric in METRICS
        if (mean := results.estimates(group, n_labelled, metric, arm.name))
    ]
    groups = {"train": subjects.train, **subjects.tests}
    return {
        "cinesynth": __version__,
        "spec": spec.model_dump(mode="json", exclude={"data"}),
        "data_hash": subjects.data_hash,
        "subjects": {group: [subject_name(row) for row in rows] for group, rows in groups.items()},
        "runs": {"finished": len(results.scores), "total": len(list(training_runs(spec)))},
        "results": rows,
    }


def methods(run: StudyRun) -> str:
    """A methods paragraph for a paper."""
    spec, subjects, generator = run.spec, run.subjects, run.spec.generator
    sizes = ", ".join(str(len(subjects.labelled(count))) for count in spec.n_labelled)
    groups = "; ".join(f"{name} ({len(rows)} subjects)" for name, rows in subjects.tests.items())
    ratios = ", ".join(f"{ratio:g}" for ratio in spec.ratios)
    others = " and, without labels, on the other subjects of the training group" if generator.unlabelled else ""
    others += f" and on {generator.phantoms} phantoms" if generator.phantoms else ""
    others += f", starting from the phantom weights {Path(generator.initial).name}" if generator.initial else ""
    return (
        f"Segmentation networks ({_network(spec.engine)}) were trained on {sizes} labelled subjects of "
        f"{len(subjects.train)} available, with standard augmentation, with and without generated hearts. For each "
        f"number of labelled subjects, a generator (cinesynth {__version__}, preset {generator.preset}"
        f"{_overrides(generator.set)}) was trained on these subjects{others}. It sampled hearts from the joint "
        f"distribution of their volumes, with {spec.cohort.frames} frames each, in ratios of {ratios} to the labelled "
        f"subjects{_mixed(spec.mix)}. All networks were trained for the same number of steps, and none was selected on "
        f"test subjects. They were tested on {groups}, whom neither the generators nor the networks had seen, at ED "
        "and ES in the scanner's voxels: Dice, 95 % Hausdorff distance and average symmetric surface distance. A "
        "missed structure counts as Dice 0, and its distances as the diagonal of the annotated stack. Means are over "
        f"subjects and {len(spec.seeds)} seeds; 95 % intervals are bootstraps over both, and differences are paired by "
        "subject and seed."
    )


def _mixed(mix: MixSpec) -> str:
    """The sentences of the methods paragraph on settings of ``mix`` that are not the defaults."""
    texts = []
    if mix.keep_best_fraction < 1.0:
        percent = f"{100 * mix.keep_best_fraction:g} %"
        texts.append(f". The {percent} whose masks a segmenter of the labelled subjects confirmed best were kept")
    if mix.paste_on_real_background:
        texts.append(". Hearts were pasted into images of the labelled subjects")
    if mix.real_fraction:
        texts.append(f". {100 * mix.real_fraction:g} % of the training frames were real")
    return "".join(texts)


def _network(engine: UNetSpec | NnunetSpec) -> str:
    if isinstance(engine, UNetSpec):
        return f"a 2D U-Net (MONAI; preset {engine.preset}{_overrides(engine.set)})"
    mirrored = "with mirrored predictions" if engine.mirror else "without mirrored predictions"
    return (
        f"nnU-Net v2 ({engine.configuration}, planned on the labelled subjects for {engine.memory_gb:g} GB, "
        f"{engine.epochs} epochs of {engine.iterations} iterations, {mirrored})"
    )


def _overrides(settings: Sequence[str]) -> str:
    return f", {', '.join(settings)}" if settings else ""


# --- Results of the paper --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PaperResult:
    """A gain that the paper (arXiv 2606.26764) reports over real subjects with standard augmentation."""

    title: str
    metric: str
    column: str
    amount: float
    """In ``unit``."""
    unit: str
    factor: float
    """From the metric's unit to ``unit``."""
    sign: int
    """1 if larger values are better, -1 if smaller ones are."""

    def verdict(self, gain: Estimate) -> str:
        """Whether a study agrees: an effect is shown if its interval excludes 0."""
        if math.isnan(gain.value):
            return "unknown"
        low, high = sorted((self.sign * gain.low, self.sign * gain.high))
        if low > 0:
            reached = self.sign * self.factor * gain.value >= abs(self.amount)
            return "reproduced" if reached else "better, but by less than the paper reports"
        return "worse" if high < 0 else "no effect shown"


PAPER_RESULTS = (
    PaperResult("mean Dice", "dice", "mean", 1.4, "points", factor=100.0, sign=1),
    PaperResult("mean HD95", "hd95_mm", "mean", -3.0, "mm", factor=1.0, sign=-1),
    PaperResult("LV Dice", "dice", "LV", 2.8, "points", factor=100.0, sign=1),
    PaperResult("LV HD95", "hd95_mm", "LV", -5.4, "mm", factor=1.0, sign=-1),
)
