"""Are generated hearts copies of training subjects: nearest neighbours in image, mask and latent space."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import binomtest, mannwhitneyu

from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.comparison import WARN_P
from cinesynth.evaluation.features.appearance import middle_slice
from cinesynth.evaluation.features.latent import LatentExtractor
from cinesynth.evaluation.measure import Measured, thumbnails
from cinesynth.evaluation.section import Evidence, Listing, Measure, Picture, Question, Section
from cinesynth.memorisation.nearest import IMAGE, LATENT, MASK, NEIGHBOURS, NearDuplicates, Space, find_near_duplicates

TITLE = "Memorisation"
QUESTION = "Is any generated heart a copy of a training subject?"
SHOWN, LISTED = 4, 12


def question(codec: Path | None = None) -> Question:
    """Memorisation; also in the latent space of the codec of a weights folder. `WeightsError` where it has none."""
    latent = LatentExtractor.of(codec) if codec else None

    def answer(evidence: Evidence) -> Section:
        misfit = latent.misfit(evidence.synthetic_cases.grid) if latent else "no weights folder was given"
        return _section(evidence, misfit)

    return Question(TITLE, [thumbnails(), *([latent.measurer()] if latent else [])], answer)


def _section(evidence: Evidence, no_latent: str) -> Section:
    spaces = [IMAGE, MASK] if no_latent else [IMAGE, MASK, LATENT]
    found = [search(space, evidence.synthetic, evidence.train, evidence.held_out) for space in spaces]
    able = [f for f in found if not f.missing]
    measures = [m for f in found for m in (_measures(f) if f in able else [_unknown(f.space, f.missing)])]
    if no_latent:
        measures.append(_unknown(LATENT, no_latent))
    return Section(
        TITLE,
        QUESTION,
        measures,
        listings=[_listing(evidence, able)] if able else [],
        pictures=[_picture(evidence, able)] if able else [],
        notes=(
            f"Closeness: distance to the nearest training subject over the median of the next {NEIGHBOURS}; at ED.",
            "Image: 1 - correlation of five blurred slices, best of shifts up to 9 mm. Mask: 1 - mean Dice.",
        ),
    )


def search(space: Space, synthetic: Measured, train: Measured, held_out: Measured) -> NearDuplicates:
    """The nearest training subjects of all hearts in one space."""
    made, known, others = (measured[space.quantity] for measured in (synthetic, train, held_out))
    return find_near_duplicates(space, made, known, others)


def _unknown(space: Space, why: str) -> Measure:
    return Measure.unknown(f"near-copies ({space.name})", why)


def _measures(found: NearDuplicates) -> list[Measure]:
    return [_rate(found), _closeness(found), _distance(found)]


def _rate(found: NearDuplicates) -> Measure:
    """The share of near-copies: nobody should be one."""
    known, limit, copies = found.synthetic.known, found.limit, found.copies
    interval = binomtest(copies, len(known)).proportion_ci(method="exact")
    return Measure(
        f"near-copies ({found.space.name})",
        copies / len(known),
        "of hearts",
        len(known),
        float(interval.low),
        float(interval.high),
        float((found.held_out.known < limit).mean()) if len(found.held_out.known) else None,
        limit=f"none of closeness below {limit:.3f}",
        judgement="fail" if copies else "pass",
        detail=f"limit from {len(found.real)} people; exact binomial interval",
    )


def _closeness(found: NearDuplicates) -> Measure:
    """Whether hearts lean on single training subjects as a whole, copies or not."""
    p = float(mannwhitneyu(found.synthetic.known, found.real, alternative="less").pvalue)
    return Measure(
        f"closeness ({found.space.name})",
        float(np.median(found.synthetic.known)),
        "median",
        len(found.synthetic.known),
        floor=float(np.median(found.real)),
        limit=f"not lower than people's (Mann-Whitney p {p:.2g}, at least {WARN_P:g})",
        judgement="warn" if p < WARN_P else "pass",
    )


def _distance(found: NearDuplicates) -> Measure:
    held_out = found.held_out.distance[np.isfinite(found.held_out.distance)]
    return Measure(
        f"nearest distance ({found.space.name})",
        float(np.nanmedian(found.synthetic.distance)),
        "median",
        len(found.synthetic.known),
        floor=float(np.median(held_out)) if len(held_out) else None,
        detail="softer hearts are nearer to everybody: not judged",
    )


def _ranked(found: Sequence[NearDuplicates]) -> list[tuple[int, NearDuplicates]]:
    """Generated hearts, the likeliest copies first, each with the space in which it is closest for that space."""
    against = np.stack([np.nan_to_num(f.synthetic.closeness / f.limit, nan=np.inf) for f in found])
    return [(int(i), found[int(against[:, i].argmin())]) for i in np.argsort(against.min(axis=0), kind="stable")]


def _listing(evidence: Evidence, found: Sequence[NearDuplicates]) -> Listing:
    rows = []
    for i, f in _ranked(found)[:LISTED]:
        s = f.synthetic
        verdict = "near-copy" if s.closeness[i] < f.limit else ""
        subject = evidence.train.names[s.place[i]]
        numbers = f"{s.distance[i]:.3f}", f"{s.closeness[i]:.3f}", f"{f.limit:.3f}"
        rows.append((evidence.synthetic.names[i], subject, f.space.name, *numbers, verdict))
    columns = ("generated", "nearest in training", "space", "distance", "closeness", "limit", "")
    return Listing("The closest pairs", columns, rows)


def _picture(evidence: Evidence, found: Sequence[NearDuplicates]) -> Picture:
    pairs = []
    for i, f in _ranked(found)[:SHOWN]:
        place = int(f.synthetic.place[i])
        pairs.append((evidence.synthetic_cases[i], evidence.train_cases[place], f.synthetic.closeness[i], f.space.name))
    return Picture(
        "The closest pairs: generated (above), nearest in training (below); ED, middle slice", _render(pairs)
    )


def _render(pairs: Sequence[tuple[Case, Case, float, str]]) -> bytes:
    figure = Figure(figsize=(2.4 * len(pairs), 5.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(pairs), squeeze=False)
    for column, (generated, subject, closeness, space) in enumerate(pairs):
        for row, (case, title) in enumerate(((generated, f"{space} {closeness:.2f}"), (subject, ""))):
            view = middle_slice(case, pixels=96, pixel_mm=1.5)
            axes[row, column].imshow(view.T, cmap="gray", vmin=-1, vmax=1)
            axes[row, column].set_title(f"{case.name}\n{title}" if title else case.name, fontsize=8)
            axes[row, column].set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
