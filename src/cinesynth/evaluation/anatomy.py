"""Section "Anatomy": acceptance rules, wall thickness and mass, and whether images show what the masks say."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.comparison import THRESHOLDS, one_sided_test, two_sided_test
from cinesynth.evaluation.contours import measure_edges, measure_wall
from cinesynth.evaluation.control import NO_SEGMENTER
from cinesynth.evaluation.figures import dice_figure, distributions
from cinesynth.evaluation.measure import Measured, Measurer
from cinesynth.evaluation.section import Figure, Judgement, Measurements, Metric, Section, SectionSpec, Table
from cinesynth.evaluation.segmenter import NAME as SEGMENTER
from cinesynth.evaluation.segmenter import Segmenter, measurer
from cinesynth.evaluation.statistics import known
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
WALLS = (("thickness_mm", "wall thickness", "mm"), ("mass_g", "myocardial mass", "g"))
"""Quantities of `measure_wall` at ED and ES: key, name, unit."""


def section_spec(segmenter: Segmenter | None) -> SectionSpec:
    """Acceptance, walls, mass and edges; with the agreement of image and mask where there is a segmenter."""
    measurers = [
        Measurer(NAME, "2", measure_rules),
        Measurer("wall", "1", measure_wall),
        Measurer("edges", "1", measure_edges),
    ]
    if segmenter is not None:
        measurers.append(measurer(segmenter))
    return SectionSpec(TITLE, measurers, partial(_evaluate, segmenter is not None))


def measure_rules(case: Case) -> dict[str, Any]:
    """Which of `ED_RULES` (at ED) and `CYCLE_RULES` hold, 1 or 0; NaN where what they need was not annotated."""
    needed = [STRUCTURES.index(s) for s in (Label.LV, Label.MYO)]
    covered: BoolArray = np.asarray(case.coverage[..., needed].all(axis=(1, 2)))
    order = [(case.ed + t) % len(case.label) for t in range(len(case.label))]
    frames = [t for t in order if covered[t]]
    ed = _passed(judge_anatomy(case.label[case.ed], case.voxel_ml).rules, ED_RULES) if covered[case.ed] else None
    whole = covered[case.ed] and covered[case.es] and case.ed != case.es
    cycle = judge_motion(case.label[frames], case.voxel_ml, frames.index(case.es)).rules if whole else None
    return {
        "ed": np.full(len(ED_RULES), np.nan) if ed is None else ed,
        "cycle": np.full(len(CYCLE_RULES), np.nan) if cycle is None else _passed(cycle, CYCLE_RULES),
    }


def _passed(rules: tuple[Verdict, ...], names: tuple[str, ...]) -> NDArray[np.float32]:
    by_name = {rule.rule: rule.passed for rule in rules}
    return np.array([by_name[name] for name in names], dtype=np.float32)


def _evaluate(segmented: bool, measurements: Measurements) -> Section:
    metrics = [
        _acceptance(measurements, "ed", "accepted at ED"),
        _acceptance(measurements, "cycle", "accepted over the cycle"),
    ]
    metrics += [_wall(measurements, *wall, phase) for wall in WALLS for phase in (0, 1)]
    metrics += [_es_over_ed(measurements), _variation(measurements)]
    metrics += [_edge_ratio(measurements), _edge_offset(measurements)]
    metrics += _segmented_dice(measurements) if segmented else [Metric.unknown("Dice of image and mask", NO_SEGMENTER)]
    return Section(
        TITLE,
        "Are generated hearts anatomically plausible, with walls and mass like real ones, and do their images show "
        "what the masks say?",
        metrics,
        [_rules_table(measurements), _walls_table(measurements)],
        _figures(measurements, segmented),
        NOTES,
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


def _acceptance(
    measurements: Measurements, rules: str, name: str, pass_at: float = 0.95, warn_at: float = 0.8
) -> Metric:
    """Share of hearts that meet all rules, judged by two shares and against real hearts (Fisher's exact test)."""
    train, held, synthetic = (_passing(m[f"{NAME}.{rules}"]) for m in measurements.sets)
    if len(synthetic) == 0:
        return Metric.unknown(name, "no generated heart has the frames that the rules need")
    rate, real = float(synthetic.mean()), np.concatenate([train, held])
    p = _fewer(synthetic, real)
    judgement: Judgement = "warn"
    if rate >= pass_at or p >= THRESHOLDS.warn_p:
        judgement = "pass"
    elif rate < warn_at and p < THRESHOLDS.fail_p:
        judgement = "fail"
    return Metric(
        name,
        rate,
        "share",
        len(synthetic),
        floor=float(held.mean()) if len(held) else None,
        limit=f"at least {pass_at:g} (fail: {warn_at:g}), or no fewer than of real hearts",
        judgement=judgement,
        detail=f"p = {p:.2g} against {len(real)} real hearts (Fisher)"
        if len(real)
        else "no real hearts to compare with",
    )


def _passing(rules: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 where all rules hold, 0 elsewhere, of the hearts that could be judged."""
    return np.asarray((rules[np.isfinite(rules).all(axis=1)] == 1).all(axis=1), dtype=np.float64)


def _fewer(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """Chance that as few as ours pass if they are like theirs; 0 without any of theirs to compare with."""
    if len(theirs) == 0:
        return 0.0
    table = np.array([[x.sum(), len(x) - x.sum()] for x in (ours, theirs)])
    return float(stats.fisher_exact(table, alternative="less").pvalue)


def _wall(measurements: Measurements, quantity: str, name: str, unit: str, phase: int) -> Metric:
    train, held, synthetic = (m[f"wall.{quantity}"][:, phase] for m in measurements.sets)
    return _differs(f"{name} at {PHASES[phase]}, distance", synthetic, train, held, unit=unit)


def _es_over_ed(measurements: Measurements) -> Metric:
    train, held, synthetic = (m["wall.es_over_ed"] for m in measurements.sets)
    return _differs("myocardial volume ES over ED, distance", synthetic, train, held)


_differs = partial(two_sided_test, comparisons=2 * len(WALLS) + 1)
"""Thickness and mass at ED and ES, ES over ED."""
_worse = partial(one_sided_test, comparisons=2 + 2 * len(STRUCTURES))
"""Two metrics of edges, and Dice of each structure at both phases."""


def _variation(measurements: Measurements, pass_at: float = 10.0, warn_at: float = 20.0) -> Metric:
    """Myocardium is nearly incompressible; segmented, its volume varies by a tenth over a cycle. Judged against real
    hearts or, with too few of them, by an absolute limit in percent."""
    name, unit = "myocardial volume over the cycle, SD / mean", "%"
    train, held, synthetic = (known(m["wall.variation_percent"]) for m in measurements.sets)
    real = np.concatenate([train, held])
    if len(synthetic) < THRESHOLDS.min_hearts:
        return Metric.unknown(name, f"only {len(synthetic)} generated hearts are whole cycles", unit=unit)
    if len(real) >= THRESHOLDS.min_hearts:
        return one_sided_test(name, synthetic, real, held, high_is_bad=True, unit=unit)
    mean = float(synthetic.mean())
    return Metric(
        name,
        mean,
        unit,
        len(synthetic),
        floor=float(held.mean()) if len(held) else None,
        limit=f"at most {pass_at:g} % (fail: {warn_at:g} %)",
        judgement="pass" if mean <= pass_at else "warn" if mean <= warn_at else "fail",
        detail=f"only {len(real)} real hearts are annotated over the whole cycle: an absolute limit",
    )


def _edge_ratio(measurements: Measurements) -> Metric:
    train, held, synthetic = (m["edges.ratio"] for m in measurements.sets)
    return _worse("edge ratio", synthetic, train, held, high_is_bad=False)


def _edge_offset(measurements: Measurements) -> Metric:
    train, held, synthetic = (m["edges.offset_mm"] for m in measurements.sets)
    return _worse("edge offset", synthetic, train, held, high_is_bad=True, unit="mm")


def _segmented_dice(measurements: Measurements) -> list[Metric]:
    """Dice of segmenter and mask at ED and ES; the real hearts are those that the segmenter was not trained on."""
    ours, theirs = (m[f"{SEGMENTER}.dice"] for m in (measurements.synthetic, measurements.held_out))
    return [
        _worse(
            f"Dice of image and mask, {structure.name} at {phase}",
            ours[:, p, s],
            theirs[:, p, s],
            theirs[:, p, s],
            high_is_bad=False,
        )
        for s, structure in reversed(list(enumerate(STRUCTURES)))
        for p, phase in enumerate(PHASES)
    ]


SETS = ("synthetic", "train", "held out")


def _in_table_order(measurements: Measurements) -> tuple[Measured, Measured, Measured]:
    return measurements.synthetic, measurements.train, measurements.held_out


def _rules_table(measurements: Measurements) -> Table:
    rows = []
    for kind, names in (("ed", ED_RULES), ("cycle", CYCLE_RULES)):
        for i, name in enumerate(names):
            columns = [known(m[f"{NAME}.{kind}"][:, i]) for m in _in_table_order(measurements)]
            rows.append((name, *(f"{int(c.sum())} of {len(c)}" for c in columns)))
    return Table("Hearts that meet each rule of acceptance", ("rule", *SETS), rows)


def _walls_table(measurements: Measurements) -> Table:
    columns = {
        f"{name} [{unit}] at {phase}": [m[f"wall.{quantity}"][:, p] for m in _in_table_order(measurements)]
        for quantity, name, unit in WALLS
        for p, phase in enumerate(PHASES)
    }
    columns["myocardium ES / ED"] = [m["wall.es_over_ed"] for m in _in_table_order(measurements)]
    columns["over the cycle, SD / mean [%]"] = [m["wall.variation_percent"] for m in _in_table_order(measurements)]
    rows = [(name, *map(_mean_sd, sets)) for name, sets in columns.items()]
    return Table("Walls: mean ± SD (hearts)", ("", *SETS), rows)


def _mean_sd(values: NDArray[np.float32]) -> str:
    found = known(values)
    return f"{found.mean():.3g} ± {found.std():.2g} ({len(found)})" if len(found) else "-"


def _figures(measurements: Measurements, segmented: bool) -> list[Figure]:
    sets = _in_table_order(measurements)
    titles = [m.title for m in sets]
    plotted = {
        f"{name} [{unit}], {phase}": [known(m[f"wall.{quantity}"][:, p]) for m in sets]
        for quantity, name, unit in WALLS
        for p, phase in enumerate(PHASES)
    }
    plotted["edge ratio"] = [known(m["edges.ratio"]) for m in sets]
    plotted["edge offset [mm]"] = [known(m["edges.offset_mm"]) for m in sets]
    figures = [distributions(titles, plotted)]
    if segmented:
        dice = [m[f"{SEGMENTER}.dice"] for m in (measurements.synthetic, measurements.held_out)]
        figures.append(dice_figure([titles[0], titles[2]], dice))
    return figures
