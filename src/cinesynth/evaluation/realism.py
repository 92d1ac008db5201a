"""Section "Realism": distances of features, precision and recall, grey values, sharpness and diversity."""

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
from cinesynth.evaluation.features.latent import LatentExtractor
from cinesynth.evaluation.features.radiomic import BANDS, GREYS, appearance, radiomic
from cinesynth.evaluation.features.randconv import one_thread, randconv3d
from cinesynth.evaluation.features.video import VideoExtractor
from cinesynth.evaluation.measure import Measured
from cinesynth.evaluation.section import Measurements, Metric, Section, SectionSpec
from cinesynth.evaluation.statistics import (
    NEIGHBOURS,
    Indices,
    Manifolds,
    Points,
    frechet,
    kernel,
    manifolds,
    mmd2,
    mmd2_interval,
    neighbours,
    pairwise,
)
from cinesynth.types import FloatArray

TITLE = "Realism"
QUESTION = "Do generated hearts look like real hearts that were not in training?"


@dataclass(frozen=True)
class Features:
    """An extractor's features: where they are among the measurements, and their name in the report."""

    name: str
    quantity: str
    detail: str
    raw: bool = False
    """Whether the Frechet distance takes them unstandardised, as the literature does for FVD."""
    why_missing: str = ""


def section_spec(codec: Path | None = None, i3d: Path | None = None) -> SectionSpec:
    """Realism; also with the latents of the autoencoder of a weights folder, and with FVD by a user's I3D weights.

    `WeightsError` where either is missing, damaged or of another kind.
    """
    latent = LatentExtractor.of(codec) if codec else None
    video = VideoExtractor.of(i3d) if i3d else None
    measurers = [appearance(), radiomic(), randconv3d()]
    measurers += [x.measurer() for x in (latent, video) if x]

    def evaluate(measurements: Measurements) -> Section:
        return _section(measurements, _features(latent, video, measurements.synthetic_cases.grid))

    return SectionSpec(TITLE, measurers, evaluate)


def _features(latent: LatentExtractor | None, video: VideoExtractor | None, grid: Grid) -> list[Features]:
    codec = f"codec {latent.identity[:12]}" if latent else ""
    misfit = latent.misfit(grid) if latent else "no weights folder was given"
    weights = f"I3D, SHA-256 {video.sha256}" if video else ""
    no_video = "" if video else "no I3D weights were given: FVD is not defined with another network"
    return [
        Features("radiomic", "radiomic.frames", "shape, first-order and texture, ED and ES"),
        Features("vae-latent", "vae-latent.frames", f"{codec}, ED and ES".lstrip(", "), why_missing=misfit),
        Features("randconv3d-seed0", "randconv3d-seed0.frames", "random 3D network, seed 0, ED and ES"),
        Features("randconv3d-seed0-cycle", "randconv3d-seed0.cycle", "random 3D network, seed 0, whole cycles"),
        Features("i3d", "fvd-i3d.cycle", weights, raw=True, why_missing=no_video),
    ]


def _section(measurements: Measurements, features: Sequence[Features]) -> Section:
    metrics = [m for f in features for m in _of_features(measurements, f)]
    sets = measurements.sets
    all_hearts = Comparison(*(len(s) for s in sets))
    metrics += [*_of_appearance(sets, all_hearts), _diversity(sets)]
    return Section(TITLE, QUESTION, metrics, notes=(f"Compared: {all_hearts.describe()}.", *_left_out(sets, features)))


def _of_features(measurements: Measurements, features: Features) -> list[Metric]:
    """Frechet distance, MMD and overlap in one space of features."""
    frechet_name = "fvd-i3d" if features.raw else f"fd-{features.name}"
    names = frechet_name, *(f"{kind}-{features.name}" for kind in ("mmd", "precision", "recall", "density", "coverage"))
    if features.why_missing:
        return [Metric.unknown(frechet_name, features.why_missing)]
    known = [_known(s[features.quantity]) for s in measurements.sets]
    sets = Comparison(*(len(k) for k in known))
    if sets.missing:
        return [Metric.unknown(name, sets.missing, detail=features.detail) for name in names]
    points = np.concatenate(known)
    alike = standardised(points, sets.real)
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


def standardised(points: Points, real_count: int) -> Points:
    """Features in standard deviations of the real hearts, the first rows; without those constant among them."""
    real = points[:real_count]
    mean, sd = real.mean(axis=0), real.std(axis=0)
    varied = sd > 1e-6 * np.maximum(np.abs(mean), 1e-3)
    return np.asarray((points[:, varied] - mean[varied]) / sd[varied])


def _frechet(name: str, points: Points, sets: Comparison, detail: str, raw: bool) -> Metric:
    """Of all features, not of their principal components: defects show where real hearts hardly vary."""
    how = "unstandardised" if raw else "standardised by real hearts"
    return sets.metric(
        name,
        lambda x, y: frechet(points[x], points[y]),
        "high",
        detail=f"{detail}; {points.shape[1]} features, {how}; biased upwards at these counts, as is its floor",
    )


def _mmd(name: str, points: Points, sets: Comparison, detail: str) -> Metric:
    gram = kernel(points)
    found = sets.metric(
        name,
        lambda x, y: mmd2(gram, x, y),
        "high",
        detail=f"{detail}; unbiased squared MMD, kernel (x.y/{points.shape[1]} + 1)^3 of standardised features",
    )
    low, high = mmd2_interval(gram, sets.groups("synthetic")[0], np.arange(sets.train))
    return replace(found, low=low, high=high)


def _overlaps(names: Sequence[str], points: Points, sets: Comparison, detail: str) -> list[Metric]:
    away = pairwise(points)
    k = min(neighbours(sets.count, sets.train), sets.train - 1)
    seen: dict[bytes, Manifolds] = {}  # four metrics share the groups

    def within(x: Indices, y: Indices) -> Manifolds:
        key = x.tobytes()
        if key not in seen:
            seen[key] = manifolds(away, x, y, k)
        return seen[key]

    statistics: dict[str, Statistic] = {
        "precision": lambda x, y: within(x, y).precision,
        "recall": lambda x, y: within(x, y).recall,
        "density": lambda x, y: within(x, y).density,
        "coverage": lambda x, y: within(x, y).coverage,
    }
    used = {"precision": NEIGHBOURS, "recall": NEIGHBOURS, "density": k, "coverage": k}
    return [
        sets.metric(name, statistic, "low", detail=f"{detail}; {used[kind]} neighbours")
        for name, (kind, statistic) in zip(names, statistics.items(), strict=True)
    ]


def _of_appearance(sets: Sequence[Measured], all_hearts: Comparison) -> list[Metric]:
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
        all_hearts.metric(
            "grey values", grey_distance, "high", unit="of the range", detail=f"Wasserstein, {GREYS} greys, ED"
        ),
        all_hearts.metric("power spectrum", band_distance, "high", unit="dB", detail=f"RMS over {rings}"),
        all_hearts.metric(
            "sharpness",
            sharpness,
            "both",
            unit="dB",
            detail=f"energy above half of Nyquist, less that of real hearts; {rings}",
        ),
    ]


def _diversity(sets: Sequence[Measured], max_hearts: int = 64) -> Metric:
    """Whether generated hearts differ from each other as much as real ones do."""
    images = [s["appearance.middle"][:max_hearts] for s in sets]
    few = Comparison(*(len(i) for i in images))
    pairs = Pairs(np.concatenate(images), (np.arange(few.real), np.arange(few.real, sum(map(len, images)))))
    return few.metric(
        "similarity of pairs",
        lambda x, _: pairs.mean(x),
        "high",
        unit="MS-SSIM",
        detail=f"mean over all pairs of {few.count} mid-ventricular ED slices; higher is less varied",
    )


def _left_out(sets: Sequence[Measured], features: Sequence[Features]) -> list[str]:
    """How many hearts an extractor could not describe."""
    lines = []
    for f in features:
        if not f.why_missing:
            gone = [f"{len(s) - len(_known(s[f.quantity]))} of {len(s)} {s.title}" for s in sets]
            if any(not text.startswith("0 ") for text in gone):
                lines.append(
                    f"{f.name} leaves out {', '.join(gone)}: not annotated at ED and ES, or not a whole cycle."
                )
    return lines


# --- MS-SSIM of pairs of hearts --------------------------------------------------------------------------------------


def ms_ssim(a: FloatArray, b: FloatArray, batch: int = 256) -> NDArray[np.float64]:
    """MS-SSIM (Wang et al., 2003) of each of ``N`` pairs of ``X Y`` images in [-1, 1], at three scales: ``N``."""
    # the first three of Wang's five scales, normalised to a sum of 1: 64 pixels have no room for the others
    weights = (0.0710, 0.4530, 0.4760)
    metric = MultiScaleSSIMMetric(2, data_range=2.0, kernel_size=7, kernel_sigma=1.5, weights=weights)
    parts = []
    with one_thread():
        for start in range(0, len(a), batch):
            pair = (torch.from_numpy(x[start : start + batch])[:, None] for x in (a, b))
            parts.append(metric(*pair).flatten().double().numpy())
    return np.asarray(np.nan_to_num(np.concatenate(parts)), dtype=np.float64)


class Pairs:
    """MS-SSIM of all pairs of ``images`` (``N X Y``) within each of the sets of positions ``among``."""

    def __init__(self, images: FloatArray, among: tuple[Indices, ...]) -> None:
        self.images, self.among = images, among

    @cached_property
    def table(self) -> NDArray[np.float64]:
        """``N N``, NaN for pairs of two sets."""
        table = np.full((len(self.images), len(self.images)), np.nan)
        for places in self.among:
            first, second = np.array(list(combinations(places, 2))).T
            table[first, second] = table[second, first] = ms_ssim(self.images[first], self.images[second])
        return table

    def mean(self, places: Indices) -> float:
        """Mean over the pairs of a group."""
        square = self.table[np.ix_(places, places)]
        return float(square[np.triu_indices(len(places), k=1)].mean())
