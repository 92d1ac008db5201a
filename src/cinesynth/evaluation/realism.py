"""Do generated hearts look like people: distances of features, overlap, diversity, grey values and sharpness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from monai.metrics.regression import MultiScaleSSIMMetric
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from cinesynth.data.geometry import Grid
from cinesynth.evaluation.comparison import Comparison, Statistic
from cinesynth.evaluation.distances import (
    NEIGHBOURS,
    Indices,
    Overlap,
    Points,
    distances,
    frechet,
    kernel,
    mmd2,
    mmd2_interval,
    neighbours,
    overlap,
)
from cinesynth.evaluation.features.appearance import BANDS, GREYS, appearance
from cinesynth.evaluation.features.latent import LatentExtractor
from cinesynth.evaluation.features.radiomic import radiomic
from cinesynth.evaluation.features.randconv import one_thread, randconv3d
from cinesynth.evaluation.features.video import VideoExtractor
from cinesynth.evaluation.measure import Measured
from cinesynth.evaluation.section import Evidence, Measure, Question, Section
from cinesynth.types import FloatArray

TITLE = "Realism"
QUESTION = "Do generated hearts look like people who were not in training?"
DIVERSE = 64
"""Hearts of a set whose pairs are compared, at most."""


@dataclass(frozen=True)
class Features:
    """Where an extractor's features of a heart are found, and what they are called in the report."""

    name: str
    quantity: str
    detail: str
    raw: bool = False
    """Taken as they are for the Frechet distance, as the literature does, instead of standardised."""
    why_missing: str = ""


def question(codec: Path | None = None, i3d: Path | None = None) -> Question:
    """Realism; with the latents of the codec of a weights folder, and FVD by a user's I3D weights.

    `WeightsError` where either is missing, damaged or of another kind.
    """
    latent = LatentExtractor.of(codec) if codec else None
    video = VideoExtractor.of(i3d) if i3d else None
    measurers = [appearance(), radiomic(), randconv3d()]
    measurers += [x.measurer() for x in (latent, video) if x]

    def answer(evidence: Evidence) -> Section:
        return _section(evidence, _features(latent, video, evidence.synthetic_cases.grid))

    return Question(TITLE, measurers, answer)


def _features(latent: LatentExtractor | None, video: VideoExtractor | None, grid: Grid) -> list[Features]:
    codec = f"codec {latent.identity[:12]}" if latent else ""
    misfit = latent.misfit(grid) if latent else "no weights folder was given"
    weights = f"I3D, SHA-256 {video.sha256}" if video else ""
    wanted = "" if video else "no I3D weights were given: FVD is never made with another network"
    return [
        Features("radiomic", "radiomic.frames", "shape, first-order and texture, ED and ES"),
        Features("vae-latent", "vae-latent.frames", f"{codec}, ED and ES".lstrip(", "), why_missing=misfit),
        Features("randconv3d-seed0", "randconv3d-seed0.frames", "random 3D network, seed 0, ED and ES"),
        Features("randconv3d-seed0-cycle", "randconv3d-seed0.cycle", "random 3D network, seed 0, whole cycles"),
        Features("i3d", "fvd-i3d.cycle", weights, raw=True, why_missing=wanted),
    ]


def _section(evidence: Evidence, features: Sequence[Features]) -> Section:
    measures = [m for f in features for m in _of_features(evidence, f)]
    sets = (evidence.train, evidence.held_out, evidence.synthetic)
    everyone = Comparison(*(len(s) for s in sets))
    measures += [*_of_appearance(sets, everyone), _diversity(sets)]
    return Section(TITLE, QUESTION, measures, notes=(f"Compared: {everyone.describe()}.", *_left_out(sets, features)))


def _of_features(evidence: Evidence, features: Features) -> list[Measure]:
    """Frechet distance, MMD and overlap in one space of features."""
    frechet_name = "fvd-i3d" if features.raw else f"fd-{features.name}"
    names = frechet_name, *(f"{kind}-{features.name}" for kind in ("mmd", "precision", "recall", "density", "coverage"))
    if features.why_missing:
        return [Measure.unknown(frechet_name, features.why_missing)]
    known = [_known(s[features.quantity]) for s in (evidence.train, evidence.held_out, evidence.synthetic)]
    sets = Comparison(*(len(k) for k in known))
    if sets.missing:
        return [Measure.unknown(name, sets.missing, detail=features.detail) for name in names]
    points = np.concatenate(known)
    alike = standardised(points, sets.people)
    detail = f"{features.detail}; {sets.describe()}"
    return [
        _frechet(frechet_name, points if features.raw else alike, sets, detail, features.raw),
        _mmd(names[1], alike, sets, detail),
        *_overlaps(names[2:], alike, sets, detail),
    ]


def _known(values: NDArray[np.float32]) -> Points:
    """Feature vectors ``N D`` of the hearts that have them."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    return np.asarray(flat[np.isfinite(flat).all(axis=1)])


def standardised(points: Points, people: int) -> Points:
    """Features in standard deviations of real people, the first ``people`` rows; without those constant in them."""
    real = points[:people]
    mean, sd = real.mean(axis=0), real.std(axis=0)
    varied = sd > 1e-6 * np.maximum(np.abs(mean), 1e-3)
    return np.asarray((points[:, varied] - mean[varied]) / sd[varied])


def _frechet(name: str, points: Points, sets: Comparison, detail: str, raw: bool) -> Measure:
    """All features, not their principal components: what people do not vary in is where a generator is told apart."""
    how = "as they are" if raw else "standardised by real people"
    return sets.measure(
        name,
        lambda x, y: frechet(points[x], points[y]),
        "high",
        detail=f"{detail}; {points.shape[1]} features, {how}; biased upwards at these counts, as is its floor",
    )


def _mmd(name: str, points: Points, sets: Comparison, detail: str) -> Measure:
    gram = kernel(points)
    found = sets.measure(
        name,
        lambda x, y: mmd2(gram, x, y),
        "high",
        detail=f"{detail}; unbiased squared MMD, kernel (x.y/{points.shape[1]} + 1)^3 of standardised features",
    )
    low, high = mmd2_interval(gram, sets.groups("synthetic")[0], np.arange(sets.train))
    return replace(found, low=low, high=high)


def _overlaps(names: Sequence[str], points: Points, sets: Comparison, detail: str) -> list[Measure]:
    away = distances(points)
    k = min(neighbours(sets.count, sets.train), sets.train - 1)
    seen: dict[bytes, Overlap] = {}  # four measures ask about the same groups

    def within(x: Indices, y: Indices) -> Overlap:
        key = x.tobytes()
        if key not in seen:
            seen[key] = overlap(away, x, y, k)
        return seen[key]

    statistics: dict[str, Statistic] = {
        "precision": lambda x, y: within(x, y).precision,
        "recall": lambda x, y: within(x, y).recall,
        "density": lambda x, y: within(x, y).density,
        "coverage": lambda x, y: within(x, y).coverage,
    }
    used = {"precision": NEIGHBOURS, "recall": NEIGHBOURS, "density": k, "coverage": k}
    return [
        sets.measure(name, statistic, "low", detail=f"{detail}; {used[kind]} neighbours")
        for name, (kind, statistic) in zip(names, statistics.items(), strict=True)
    ]


def _of_appearance(sets: Sequence[Measured], everyone: Comparison) -> list[Measure]:
    """Grey values and sharpness of ED."""
    greys = np.concatenate([s["appearance.histogram"] for s in sets]).astype(np.float64)
    bands = np.concatenate([s["appearance.spectrum"] for s in sets]).astype(np.float64)
    fine = np.log10(np.power(10.0, bands[:, BANDS // 2 :]).sum(axis=1) / np.power(10.0, bands).sum(axis=1))
    levels = (np.arange(GREYS) + 0.5) / GREYS

    def grey_distance(x: Indices, y: Indices) -> float:
        return float(wasserstein_distance(levels, levels, greys[x].mean(axis=0), greys[y].mean(axis=0)))

    def band_distance(x: Indices, y: Indices) -> float:
        return float(10 * np.sqrt(np.mean((bands[x].mean(axis=0) - bands[y].mean(axis=0)) ** 2)))

    def sharpness(x: Indices, y: Indices) -> float:
        return float(10 * (fine[x].mean() - fine[y].mean()))

    rings = f"{BANDS} rings of frequency up to Nyquist, ED, three slices"
    return [
        everyone.measure(
            "grey values", grey_distance, "high", unit="of the range", detail=f"Wasserstein, {GREYS} greys, ED"
        ),
        everyone.measure("power spectrum", band_distance, "high", unit="dB", detail=f"RMS over {rings}"),
        everyone.measure(
            "sharpness", sharpness, "both", unit="dB", detail=f"energy above half of Nyquist beside people's; {rings}"
        ),
    ]


def _diversity(sets: Sequence[Measured]) -> Measure:
    """Whether generated hearts are as different from each other as people are."""
    images = [s["appearance.middle"][:DIVERSE] for s in sets]
    few = Comparison(*(len(i) for i in images))
    pairs = Pairs(np.concatenate(images), (np.arange(few.people), np.arange(few.people, sum(map(len, images)))))
    return few.measure(
        "similarity of pairs",
        lambda x, _: pairs.mean(x),
        "high",
        unit="MS-SSIM",
        detail=f"mean over all pairs of {few.count} mid-ventricular ED slices; higher is less varied",
    )


def _left_out(sets: Sequence[Measured], features: Sequence[Features]) -> list[str]:
    """Which hearts an extractor could not describe."""
    lines = []
    for f in features:
        if not f.why_missing:
            gone = [f"{len(s) - len(_known(s[f.quantity]))} of {len(s)} {s.title}" for s in sets]
            if any(not text.startswith("0 ") for text in gone):
                lines.append(f"{f.name} leaves out {', '.join(gone)}: not annotated at ED and ES, or no whole cycle.")
    return lines


# --- MS-SSIM of pairs of hearts --------------------------------------------------------------------------------------


KERNEL_PX, SIGMA_PX = 7, 1.5
WEIGHTS = (0.0710, 0.4530, 0.4760)
"""The first three of Wang's five scales, of sum 1: 64 pixels have no room for the others."""
BATCH = 256


def ms_ssim(a: FloatArray, b: FloatArray) -> NDArray[np.float64]:
    """MS-SSIM (Wang et al., 2003) of each of ``N`` pairs of ``X Y`` images in [-1, 1], at three scales: ``N``."""
    metric = MultiScaleSSIMMetric(2, data_range=2.0, kernel_size=KERNEL_PX, kernel_sigma=SIGMA_PX, weights=WEIGHTS)
    parts = []
    with one_thread():
        for start in range(0, len(a), BATCH):
            pair = (torch.from_numpy(x[start : start + BATCH])[:, None] for x in (a, b))
            parts.append(metric(*pair).flatten().double().numpy())
    return np.asarray(np.nan_to_num(np.concatenate(parts)), dtype=np.float64)


class Pairs:
    """MS-SSIM of all pairs of ``images`` (``N X Y``) within each of the sets of places ``among``."""

    def __init__(self, images: FloatArray, among: tuple[Indices, ...]) -> None:
        self.images, self.among = images, among

    @cached_property
    def table(self) -> NDArray[np.float64]:
        """``N N``, NaN where it was not asked for."""
        table = np.full((len(self.images), len(self.images)), np.nan)
        for places in self.among:
            first, second = np.array(list(combinations(places, 2))).T
            table[first, second] = table[second, first] = ms_ssim(self.images[first], self.images[second])
        return table

    def mean(self, places: Indices) -> float:
        """Mean over the pairs of a group."""
        square = self.table[np.ix_(places, places)]
        return float(square[np.triu_indices(len(places), k=1)].mean())
