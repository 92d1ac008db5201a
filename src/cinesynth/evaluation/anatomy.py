"""Section "Anatomy": acceptance rules, wall thickness and mass, and whether images show what the masks say."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cinesynth.data.label_shape import bounding_box
from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.comparison import THRESHOLDS, judge_value, one_sided_test, two_sided_test
from cinesynth.evaluation.contours import EDGES, WALL
from cinesynth.evaluation.control import NO_SEGMENTER
from cinesynth.evaluation.measure import Measured, Measurer
from cinesynth.evaluation.section import Figure, Judgement, Measurements, Metric, Section, SectionSpec, Table
from cinesynth.evaluation.segmenter import NAME as SEGMENTER
from cinesynth.evaluation.segmenter import Segmenter, measurer
from cinesynth.evaluation.statistics import known
from cinesynth.reports.plots import strip_plots
from cinesynth.synthesis.acceptance import Verdict, judge_anatomy, judge_motion
from cinesynth.types import STRUCTURES, BoolArray, Label

TITLE = "Anatomy"
NAME = "anatomy"
SHAPE_RULES = ("lv_largest_part", "myo_largest_part", "myo_encloses_lv")
ED_RULES = ("lv_volume_ml", "myo_volume_ml", "lv_contiguous_slices", *SHAPE_RULES, "myo_encloses_base")
CYCLE_RULES = (
    "lv_es_volume_ml",
    "lv_esv_over_edv",
    "lv_largest_over_edv",
    "lv_minima",
    "es_frames_off",
    "myo_es_over_ed",
    *(f"cycle_{rule}" for rule in SHAPE_RULES),
    "es_myo_encloses_base",
)
PHASES = ("ED", "ES")
WALLS = tuple(
    (f"wall.{key}", place, phase, name, unit)
    for key, name, unit in (("thickness_mm", "wall thickness", "mm"), ("mass_g", "myocardial mass", "g"))
    for place, phase in enumerate(PHASES)
)
"""Quantities at ED and ES: key among the measurements, position and name of the phase, name, unit."""


def section_spec(segmenter: Segmenter | None) -> SectionSpec:
    """Acceptance, walls, mass and edges; with the agreement of image and mask where there is a segmenter."""
    measurers = [Measurer(NAME, "2", measure_rules), WALL, EDGES, *([measurer(segmenter)] if segmenter else [])]
    return SectionSpec(TITLE, measurers, partial(_evaluate, segmenter is not None))


def measure_rules(case: Case) -> dict[str, Any]:
    """Which of `ED_RULES` (at ED) and `CYCLE_RULES` hold, 1 or 0; NaN where what they need was not annotated."""
    needed = [STRUCTURES.index(s) for s in (Label.LV, Label.MYO)]
    covered: BoolArray = np.asarray(case.coverage[..., needed].all(axis=(1, 2)))
    order = [(case.ed + t) % len(case.label) for t in range(len(case.label))]
    frames = [t for t in order if covered[t]]
    # the rules look at the heart alone: its box in any frame is a small part of the field
    label = case.label[(slice(None), *bounding_box(case.label.max(axis=0)))]
    ed = judge_anatomy(label[case.ed], case.voxel_ml).rules if covered[case.ed] else ()
    whole = covered[case.ed] and covered[case.es] and case.ed != case.es
    cycle = judge_motion(label[frames], case.voxel_ml, frames.index(case.es)).rules if whole else ()
    return {"ed": _passed(ed, ED_RULES), "cycle": _passed(cycle, CYCLE_RULES)}


def _passed(rules: tuple[Verdict, ...], names: tuple[str, ...]) -> NDArray[np.float32]:
    by_name = {rule.rule: rule.passed for rule in rules}
    return np.array([by_name[name] if rules else np.nan for name in names], dtype=np.float32)


def _evaluate(segmented: bool, measurements: Measurements) -> Section:
    sets = measurements.synthetic, measurements.train, measurements.held_out
    differs = partial(two_sided_test, comparisons=len(WALLS) + 1)  # `WALLS`, and ES over ED
    worse = partial(one_sided_test, comparisons=2 + 2 * len(STRUCTURES))  # edges, and Dice of each structure and phase
    metrics = [_acceptance(sets, "ed", "accepted at ED"), _acceptance(sets, "cycle", "accepted over the cycle")]
    for key, place, phase, name, unit in WALLS:
        metrics.append(differs(f"{name} at {phase}, distance", *(m[key][:, place] for m in sets), unit=unit))
    metrics.append(differs("myocardial volume ES over ED, distance", *(m["wall.es_over_ed"] for m in sets)))
    metrics.append(_variation(sets))
    metrics.append(worse("edge ratio", *(m["edges.ratio"] for m in sets), high_is_bad=False))
    metrics.append(worse("edge offset", *(m["edges.offset_mm"] for m in sets), high_is_bad=True, unit="mm"))
    if segmented:  # the real hearts are those that the segmenter was not trained on
        dice, floor = (m[f"{SEGMENTER}.dice"] for m in (measurements.synthetic, measurements.held_out))
        for i, structure in reversed(list(enumerate(STRUCTURES))):
            for p, phase in enumerate(PHASES):
                name, own = f"Dice of image and mask, {structure.name} at {phase}", floor[:, p, i]
                metrics.append(worse(name, dice[:, p, i], own, own, high_is_bad=False))
    else:
        metrics.append(Metric.unknown("Dice of image and mask", NO_SEGMENTER))
    return Section(TITLE, QUESTION, metrics, _tables(sets), _figures(sets, segmented), NOTES)


QUESTION = (
    "Are generated hearts anatomically plausible, with walls and mass like real ones, and do their images show what "
    "the masks say?"
)
NOTES = (
    "Wall thickness: mean length of myocardium along 72 rays from the LV's centre, mid-ventricular third. Mass: 1.05 "
    "g/mL.",
    "Distances are Wasserstein distances from the real training hearts, including their mix of diagnoses and sizes: a "
    "cohort of one diagnosis should differ.",
    "Edge ratio: mean image gradient at the LV contour over that at the contour displaced by 4 mm in 16 directions. "
    "Edge offset: how far the contour must move (up to 8 mm) to meet the strongest edges. For a mask that does not "
    "belong to its image, the ratio falls towards 1 and the offset rises.",
    "The segmenter is compared with the generated masks on generated images, and with the annotators on real held-out "
    "images (the floor).",
)


def _acceptance(sets: Sequence[Measured], rules: str, name: str, pass_at: float = 0.95, warn_at: float = 0.8) -> Metric:
    """Share of hearts that meet all rules, judged by two shares and against real hearts (Fisher's exact test)."""
    tables = [m[f"{NAME}.{rules}"] for m in sets]
    synthetic, train, held = ((t[np.isfinite(t).all(axis=1)] == 1).all(axis=1).astype(np.float64) for t in tables)
    if len(synthetic) == 0:
        return Metric.unknown(name, "no generated heart has the frames that the rules need")
    rate, real = float(synthetic.mean()), np.concatenate([train, held])
    p, detail = 0.0, "no real hearts to compare with"
    if len(real):  # the chance that as few as ours pass if they are like real ones
        counts = np.array([[x.sum(), len(x) - x.sum()] for x in (synthetic, real)])
        p = float(stats.fisher_exact(counts, alternative="less").pvalue)
        detail = f"p = {p:.2g} against {len(real)} real hearts (Fisher)"
    judgement: Judgement = "warn"
    if rate >= pass_at or p >= THRESHOLDS.warn_p:
        judgement = "pass"
    elif rate < warn_at and p < THRESHOLDS.fail_p:
        judgement = "fail"
    limit = f"at least {pass_at:g} (fail: {warn_at:g}), or no fewer than of real hearts"
    floor = float(held.mean()) if len(held) else None
    return Metric(name, rate, "share", len(synthetic), floor=floor, limit=limit, judgement=judgement, detail=detail)


def _variation(sets: Sequence[Measured], pass_at: float = 10.0, warn_at: float = 20.0) -> Metric:
    """Myocardium is nearly incompressible; segmented, its volume varies by a tenth over a cycle. Judged against real
    hearts or, with too few of them, by an absolute limit in percent."""
    name, unit = "myocardial volume over the cycle, SD / mean", "%"
    synthetic, train, held = (known(m["wall.variation_percent"]) for m in sets)
    real = np.concatenate([train, held])
    if len(synthetic) < THRESHOLDS.min_hearts:
        return Metric.unknown(name, f"only {len(synthetic)} generated hearts are whole cycles", unit=unit)
    if len(real) >= THRESHOLDS.min_hearts:
        return one_sided_test(name, synthetic, real, held, high_is_bad=True, unit=unit)
    mean, floor = float(synthetic.mean()), float(held.mean()) if len(held) else None
    limit, judgement = f"at most {pass_at:g} % (fail: {warn_at:g} %)", judge_value(mean, pass_at, warn_at)
    detail = f"only {len(real)} real hearts are annotated over the whole cycle: an absolute limit"
    return Metric(name, mean, unit, len(synthetic), floor=floor, limit=limit, judgement=judgement, detail=detail)


SETS = ("synthetic", "train", "held out")


def _tables(sets: Sequence[Measured]) -> list[Table]:
    rules = []
    for kind, names in (("ed", ED_RULES), ("cycle", CYCLE_RULES)):
        for i, name in enumerate(names):
            judged = [known(m[f"{NAME}.{kind}"][:, i]) for m in sets]
            rules.append((name, *(f"{int(j.sum())} of {len(j)}" for j in judged)))
    walls = [(f"{name} [{unit}] at {phase}", [m[key][:, p] for m in sets]) for key, p, phase, name, unit in WALLS]
    walls.append(("myocardium ES / ED", [m["wall.es_over_ed"] for m in sets]))
    walls.append(("over the cycle, SD / mean [%]", [m["wall.variation_percent"] for m in sets]))
    return [
        Table("Hearts that meet each rule of acceptance", ("rule", *SETS), rules),
        Table("Walls: mean ± SD (hearts)", ("", *SETS), [(name, *map(_mean_sd, values)) for name, values in walls]),
    ]


def _mean_sd(values: NDArray[np.float32]) -> str:
    found = known(values)
    return f"{found.mean():.3g} ± {found.std():.2g} ({len(found)})" if len(found) else "-"


def _figures(sets: Sequence[Measured], segmented: bool) -> list[Figure]:
    titles = [m.title for m in sets]
    plotted = {f"{name} [{unit}], {phase}": [known(m[key][:, p]) for m in sets] for key, p, phase, name, unit in WALLS}
    plotted["edge ratio"] = [known(m["edges.ratio"]) for m in sets]
    plotted["edge offset [mm]"] = [known(m["edges.offset_mm"]) for m in sets]
    caption = "Walls and edges of generated and of real hearts: one point per heart, median and quartiles."
    figures = [Figure(caption, strip_plots(titles, plotted, panel_height_px=260))]
    if segmented:
        tables = [m[f"{SEGMENTER}.dice"] for m in (sets[0], sets[2])]
        dice = {f"Dice {s.name}": [known(t[:, :, i]) for t in tables] for i, s in enumerate(STRUCTURES)}
        caption = (
            "The independent segmenter against the masks of generated images and the annotations of real ones, ED and "
            "ES."
        )
        figures.append(Figure(caption, strip_plots([titles[0], titles[2]], dice, panel_height_px=280)))
    return figures
