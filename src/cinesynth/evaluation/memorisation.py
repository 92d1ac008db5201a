"""Section "Memorisation": are generated hearts copies of training subjects, in image, mask or latent space."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import binomtest, mannwhitneyu

from cinesynth.evaluation.codec import LatentExtractor
from cinesynth.evaluation.comparison import THRESHOLDS
from cinesynth.evaluation.measure import THUMBNAILS, Measured
from cinesynth.evaluation.radiomic import middle_slice
from cinesynth.evaluation.section import Figure, Measurements, Metric, Section, SectionSpec, Table
from cinesynth.memorisation.nearest import IMAGE, LATENT, MASK, NEIGHBOURS, NearDuplicates, Space, find_near_duplicates
from cinesynth.reports.plots import paired_slices

TITLE = "Memorisation"
QUESTION = "Is any generated heart a copy of a training subject?"


def section_spec(codec: Path | None = None) -> SectionSpec:
    """Memorisation; also in the latent space of a weights folder's autoencoder. `WeightsError` where it has none."""
    latent = LatentExtractor.of(codec) if codec else None
    measurers = [THUMBNAILS, *([latent.measurer()] if latent else [])]
    return SectionSpec(TITLE, measurers, partial(_evaluate, latent))


def _evaluate(latent: LatentExtractor | None, measurements: Measurements) -> Section:
    no_latent = latent.misfit(measurements.synthetic_cases.grid) if latent else "no weights folder was given"
    spaces = [IMAGE, MASK] if no_latent else [IMAGE, MASK, LATENT]
    found = [search(space, measurements.synthetic, measurements.train, measurements.held_out) for space in spaces]
    able = [f for f in found if not f.missing]
    metrics: list[Metric] = []
    for f in found:
        metrics += [Metric.unknown(f"near-copies ({f.space.name})", f.missing)] if f.missing else _metrics(f)
    if no_latent:
        metrics.append(Metric.unknown(f"near-copies ({LATENT.name})", no_latent))
    return Section(
        TITLE,
        QUESTION,
        metrics,
        tables=[_table(measurements, able)] if able else [],
        figures=[_figure(measurements, able)] if able else [],
        notes=(
            f"Closeness: distance to the nearest training subject over the median of the next {NEIGHBOURS}; at ED.",
            "Image: 1 - correlation of five blurred slices, best of shifts up to 9 mm. Mask: 1 - mean Dice.",
        ),
    )


def search(space: Space, synthetic: Measured, train: Measured, held_out: Measured) -> NearDuplicates:
    """The nearest training subjects of all hearts in one space."""
    return find_near_duplicates(space, *(measured[space.quantity] for measured in (synthetic, train, held_out)))


def _metrics(found: NearDuplicates) -> list[Metric]:
    space, known, limit, copies = found.space.name, found.synthetic.known, found.limit, found.copies
    interval = binomtest(copies, len(known)).proportion_ci(method="exact")
    warn_p, p = THRESHOLDS.warn_p_set, float(mannwhitneyu(known, found.real, alternative="less").pvalue)
    held_out = found.held_out.distance[np.isfinite(found.held_out.distance)]
    return [
        Metric(  # there should be none
            f"near-copies ({space})",
            copies / len(known),
            "of hearts",
            len(known),
            float(interval.low),
            float(interval.high),
            float((found.held_out.known < limit).mean()) if len(found.held_out.known) else None,
            limit=f"none of closeness below {limit:.3f}",
            judgement="fail" if copies else "pass",
            detail=f"limit from {len(found.real)} subjects; exact binomial interval",
        ),
        Metric(  # whether hearts as a whole are close to single training subjects, copies or not
            f"closeness ({space})",
            float(np.median(known)),
            "median",
            len(known),
            floor=float(np.median(found.real)),
            limit=f"not lower than for real subjects (Mann-Whitney p {p:.2g}, at least {warn_p:g})",
            judgement="warn" if p < warn_p else "pass",
        ),
        Metric(
            f"nearest distance ({space})",
            float(np.nanmedian(found.synthetic.distance)),
            "median",
            len(known),
            floor=float(np.median(held_out)) if len(held_out) else None,
            detail="smoother hearts are nearer to all subjects: not judged",
        ),
    ]


def _ranked(found: Sequence[NearDuplicates]) -> list[tuple[int, NearDuplicates]]:
    """Generated hearts, the likeliest copies first, each with the space in which it is closest to being one."""
    against = np.stack([np.nan_to_num(f.synthetic.closeness / f.limit, nan=np.inf) for f in found])
    return [(int(i), found[int(against[:, i].argmin())]) for i in np.argsort(against.min(axis=0), kind="stable")]


def _table(measurements: Measurements, found: Sequence[NearDuplicates], max_rows: int = 12) -> Table:
    rows = []
    for i, f in _ranked(found)[:max_rows]:
        s = f.synthetic
        verdict = "near-copy" if s.closeness[i] < f.limit else ""
        subject = measurements.train.names[s.place[i]]
        numbers = f"{s.distance[i]:.3f}", f"{s.closeness[i]:.3f}", f"{f.limit:.3f}"
        rows.append((measurements.synthetic.names[i], subject, f.space.name, *numbers, verdict))
    columns = ("generated", "nearest in training", "space", "distance", "closeness", "limit", "")
    return Table("The closest pairs", columns, rows)


def _figure(measurements: Measurements, found: Sequence[NearDuplicates], shown: int = 4) -> Figure:
    pairs = []
    for i, f in _ranked(found)[:shown]:
        generated, subject = measurements.synthetic_cases[i], measurements.train_cases[int(f.synthetic.place[i])]
        first, second = (middle_slice(case, pixels=96, pixel_mm=1.5) for case in (generated, subject))
        title = f"{generated.name}\n{f.space.name} {f.synthetic.closeness[i]:.2f}"
        pairs.append(((title, first), (subject.name, second)))
    caption = "The closest pairs: generated (above), nearest in training (below); ED, middle slice"
    return Figure(caption, paired_slices(pairs))
