"""Is it a heart: acceptance rules, walls, mass, and whether the image shows what the mask says."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cinesynth.evaluation.anatomy_figures import distributions, overlaps_picture
from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.control import NO_SEGMENTER
from cinesynth.evaluation.measure import Measured, Measurer
from cinesynth.evaluation.section import Evidence, Judgement, Listing, Measure, Picture, Question, Section
from cinesynth.evaluation.segmenter import NAME as SEGMENTER
from cinesynth.evaluation.segmenter import Segmenter, measurer
from cinesynth.evaluation.statistics import FAIL_P, FEWEST, WARN_P, Yardstick, known
from cinesynth.evaluation.surfaces import measure_edges, measure_wall
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
LEAST_ACCEPTED = (0.95, 0.8)
"""Share of hearts that are hearts, to pass and to be warned of."""
LARGEST_VARIATION_PERCENT = (10.0, 20.0)
"""Myocardium hardly compresses; segmented, its volume varies by a tenth over a cycle, to pass and to be warned of."""
UNLIKE = Yardstick(5)
"""Thickness and mass at ED and ES, ES over ED."""
WORSE = Yardstick(2 + 2 * len(STRUCTURES))
"""Two measures of edges, and Dice of each structure at both phases."""


def question(segmenter: Segmenter | None) -> Question:
    """Rules, walls, mass and image-mask agreement, the latter also by the segmenter where there is one."""
    measurers = [
        Measurer(NAME, "2", measure_rules),
        Measurer("wall", "1", measure_wall),
        Measurer("edges", "1", measure_edges),
    ]
    if segmenter is not None:
        measurers.append(measurer(segmenter))
    return Question(TITLE, measurers, partial(_answer, segmenter is not None))


def measure_rules(case: Case) -> dict[str, Any]:
    """Which of `ED_RULES` (at ED) and `CYCLE_RULES` hold, 1 or 0; NaN where nobody annotated what they need."""
    needed = [STRUCTURES.index(s) for s in (Label.LV, Label.MYO)]
    covered: BoolArray = np.asarray(case.coverage[..., needed].all(axis=(1, 2)))
    order = [(case.ed + t) % len(case.label) for t in range(len(case.label))]
    frames = [t for t in order if covered[t]]
    ed = _held(judge_anatomy(case.label[case.ed], case.voxel_ml).rules, ED_RULES) if covered[case.ed] else None
    whole = covered[case.ed] and covered[case.es] and case.ed != case.es
    cycle = judge_motion(case.label[frames], case.voxel_ml, frames.index(case.es)).rules if whole else None
    return {
        "ed": np.full(len(ED_RULES), np.nan) if ed is None else ed,
        "cycle": np.full(len(CYCLE_RULES), np.nan) if cycle is None else _held(cycle, CYCLE_RULES),
    }


def _held(rules: tuple[Verdict, ...], names: tuple[str, ...]) -> NDArray[np.float32]:
    by_name = {rule.rule: rule.passed for rule in rules}
    return np.array([by_name[name] for name in names], dtype=np.float32)


def _answer(segmented: bool, evidence: Evidence) -> Section:
    measures = [
        _acceptance(evidence, "ed", "accepted at ED"),
        _acceptance(evidence, "cycle", "accepted over the cycle"),
    ]
    measures += [_wall(evidence, "thickness_mm", "wall thickness", "mm", i) for i in (0, 1)]
    measures += [_wall(evidence, "mass_g", "myocardial mass", "g", i) for i in (0, 1)]
    measures += [_unlike(evidence, "wall.es_over_ed", "myocardial volume ES over ED"), _variation(evidence)]
    measures += [_edge_ratio(evidence), _edge_offset(evidence)]
    measures += _segmented_dice(evidence) if segmented else [Measure.unknown("Dice of image and mask", NO_SEGMENTER)]
    return Section(
        TITLE,
        "Are the generated hearts hearts, with walls and mass like real ones, and do images show what the masks say?",
        measures,
        [_rules_listing(evidence), _walls_listing(evidence)],
        _pictures(evidence, segmented),
        NOTES,
    )


NOTES = (
    "Wall thickness: mean length of myocardium along 72 rays from the LV's centre, mid-ventricular third. Mass: 1.05 "
    "g/mL.",
    "Distances are Wasserstein distances from the real training hearts, whose mix of diagnoses and sizes is part of "
    "what is compared: a cohort of one diagnosis should differ.",
    "Edge ratio: mean image gradient at the LV contour over that at the contour displaced by 4 mm in 16 directions. "
    "Edge offset: how far the contour must move (up to 8 mm) to meet the strongest edges. Of a mask that does not "
    "belong to its image the first falls towards 1 and the second rises.",
    "The segmenter's Dice is taken against the generated masks on generated images, and against the annotators on real "
    "held-out images (the floor).",
)


def _acceptance(evidence: Evidence, rules: str, name: str) -> Measure:
    synthetic, train, held = (_passing(m[f"{NAME}.{rules}"]) for m in _sets(evidence))
    if len(synthetic) == 0:
        return Measure.unknown(name, "no generated heart has the frames that the rules need")
    rate = float(synthetic.mean())
    real = np.concatenate([train, held])
    p = _fewer(synthetic, real)
    good, bearable = LEAST_ACCEPTED
    verdict: Judgement = "pass" if rate >= good or p >= WARN_P else "fail" if rate < bearable and p < FAIL_P else "warn"
    return Measure(
        name,
        rate,
        "share",
        len(synthetic),
        floor=float(held.mean()) if len(held) else None,
        limit=f"at least {good:g} (fail: {bearable:g}), or no fewer than of real hearts",
        judgement=verdict,
        detail=f"p = {p:.2g} against {len(real)} real hearts (Fisher)"
        if len(real)
        else "no real heart to compare with",
    )


def _passing(rules: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 where all rules hold, of the hearts that they could be asked of."""
    return np.asarray((rules[np.isfinite(rules).all(axis=1)] == 1).all(axis=1), dtype=np.float64)


def _fewer(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """Chance that as few as ours pass if they are like theirs; 0 without any of theirs."""
    if len(theirs) == 0:
        return 0.0
    table = np.array([[x.sum(), len(x) - x.sum()] for x in (ours, theirs)])
    return float(stats.fisher_exact(table, alternative="less").pvalue)


def _sets(evidence: Evidence) -> tuple[Measured, Measured, Measured]:
    return evidence.synthetic, evidence.train, evidence.held_out


def _wall(evidence: Evidence, quantity: str, name: str, unit: str, phase: int) -> Measure:
    synthetic, train, held = (m[f"wall.{quantity}"][:, phase] for m in _sets(evidence))
    return UNLIKE.unlike(f"{name} at {PHASES[phase]}, distance", synthetic, train, held, unit)


def _unlike(evidence: Evidence, quantity: str, name: str) -> Measure:
    synthetic, train, held = (m[quantity] for m in _sets(evidence))
    return UNLIKE.unlike(f"{name}, distance", synthetic, train, held)


def _variation(evidence: Evidence) -> Measure:
    name, unit = "myocardial volume over the cycle, SD / mean", "%"
    synthetic, train, held = (m["wall.variation_percent"] for m in _sets(evidence))
    ours, real, floor = known(synthetic), known(np.concatenate([train, held])), known(held)
    if len(ours) < FEWEST:
        return Measure.unknown(name, f"only {len(ours)} generated hearts are whole cycles", unit=unit)
    if len(real) >= FEWEST:
        return Yardstick(1).worse(name, ours, real, held, high_is_bad=True, unit=unit)
    good, bearable = LARGEST_VARIATION_PERCENT
    mean = float(ours.mean())
    return Measure(
        name,
        mean,
        unit,
        len(ours),
        floor=float(floor.mean()) if len(floor) else None,
        limit=f"at most {good:g} % (fail: {bearable:g} %)",
        judgement="pass" if mean <= good else "warn" if mean <= bearable else "fail",
        detail=f"only {len(real)} real hearts are annotated over the whole cycle: an absolute limit",
    )


def _edge_ratio(evidence: Evidence) -> Measure:
    synthetic, train, held = (m["edges.ratio"] for m in _sets(evidence))
    return WORSE.worse("edge ratio", synthetic, train, held, high_is_bad=False)


def _edge_offset(evidence: Evidence) -> Measure:
    synthetic, train, held = (m["edges.offset_mm"] for m in _sets(evidence))
    return WORSE.worse("edge offset", synthetic, train, held, high_is_bad=True, unit="mm")


def _segmented_dice(evidence: Evidence) -> list[Measure]:
    """Dice of the segmenter and the masks at ED and ES; the real hearts are those it was not trained on."""
    ours, theirs = (m[f"{SEGMENTER}.dice"] for m in (evidence.synthetic, evidence.held_out))
    return [
        WORSE.worse(
            f"Dice of image and mask, {structure.name} at {phase}",
            ours[:, p, s],
            theirs[:, p, s],
            theirs[:, p, s],
            high_is_bad=False,
        )
        for s, structure in reversed(list(enumerate(STRUCTURES)))
        for p, phase in enumerate(PHASES)
    ]


def _rules_listing(evidence: Evidence) -> Listing:
    rows = []
    for kind, names in (("ed", ED_RULES), ("cycle", CYCLE_RULES)):
        for i, name in enumerate(names):
            columns = [known(m[f"{NAME}.{kind}"][:, i]) for m in _sets(evidence)]
            rows.append((name, *(f"{int(c.sum())} of {len(c)}" for c in columns)))
    return Listing("Hearts that meet each rule of acceptance", ("rule", "synthetic", "train", "held out"), rows)


def _walls_listing(evidence: Evidence) -> Listing:
    rows = []
    for quantity, name in (("thickness_mm", "wall thickness [mm]"), ("mass_g", "myocardial mass [g]")):
        for p, phase in enumerate(PHASES):
            rows.append((f"{name} at {phase}", *(_mean_sd(m[f"wall.{quantity}"][:, p]) for m in _sets(evidence))))
    for quantity, name in (
        ("es_over_ed", "myocardium ES / ED"),
        ("variation_percent", "over the cycle, SD / mean [%]"),
    ):
        rows.append((name, *(_mean_sd(m[f"wall.{quantity}"]) for m in _sets(evidence))))
    return Listing("Walls: mean ± SD (hearts)", ("", "synthetic", "train", "held out"), rows)


def _mean_sd(values: NDArray[np.float32]) -> str:
    found = known(values)
    return f"{found.mean():.3g} ± {found.std():.2g} ({len(found)})" if len(found) else "-"


def _pictures(evidence: Evidence, segmented: bool) -> list[Picture]:
    titles = [m.title for m in _sets(evidence)]
    shown = {}
    for quantity, name in (("thickness_mm", "wall thickness [mm]"), ("mass_g", "myocardial mass [g]")):
        for p, phase in enumerate(PHASES):
            shown[f"{name}, {phase}"] = [known(m[f"wall.{quantity}"][:, p]) for m in _sets(evidence)]
    shown["edge ratio"] = [known(m["edges.ratio"]) for m in _sets(evidence)]
    shown["edge offset [mm]"] = [known(m["edges.offset_mm"]) for m in _sets(evidence)]
    pictures = [distributions(titles, shown)]
    if segmented:
        dice = [m[f"{SEGMENTER}.dice"] for m in (evidence.synthetic, evidence.held_out)]
        pictures.append(overlaps_picture([titles[0], titles[2]], dice))
    return pictures
