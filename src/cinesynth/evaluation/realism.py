"""Section "Realism": distances of features, precision and recall, grey values, sharpness and diversity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance
from torch import Tensor

from cinesynth.data.geometry import Grid
from cinesynth.evaluation import statistics
from cinesynth.evaluation.codec import LatentExtractor
from cinesynth.evaluation.comparison import Comparison
from cinesynth.evaluation.measure import Measured
from cinesynth.evaluation.networks import RANDCONV3D, VideoExtractor
from cinesynth.evaluation.radiomic import APPEARANCE, BANDS, GREYS, RADIOMIC
from cinesynth.evaluation.section import Measurements, Metric, Section, SectionSpec
from cinesynth.evaluation.statistics import Indices, Points
from cinesynth.models.threads import one_thread
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
    measurers = [APPEARANCE, RADIOMIC, RANDCONV3D]
    measurers += [x.measurer() for x in (latent, video) if x]
    return SectionSpec(TITLE, measurers, partial(_evaluate, latent, video))


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


def _evaluate(latent: LatentExtractor | None, video: VideoExtractor | None, measurements: Measurements) -> Section:
    features, sets = _features(latent, video, measurements.synthetic_cases.grid), measurements.sets
    all_hearts = Comparison(*(len(s) for s in sets))
    metrics = [m for f in features for m in _of_features(measurements, f)]
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
    own, how = (points, "unstandardised") if features.raw else (alike, "standardised by real hearts")
    # of all features, not of their principal components: defects show where real hearts hardly vary
    distance = sets.metric(
        frechet_name,
        lambda x, y: statistics.frechet(own[x], own[y]),
        "high",
        detail=f"{detail}; {own.shape[1]} features, {how}; biased upwards at these counts, as is its floor",
    )
    gram = statistics.kernel(alike)
    discrepancy = sets.metric(
        names[1],
        lambda x, y: statistics.mmd2(gram, x, y),
        "high",
        detail=f"{detail}; unbiased squared MMD, kernel (x.y/{alike.shape[1]} + 1)^3 of standardised features",
    )
    low, high = statistics.mmd2_interval(gram, sets.groups("synthetic")[0], np.arange(sets.train))
    return [distance, replace(discrepancy, low=low, high=high), *_overlaps(names[2:], alike, sets, detail)]


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


def _overlaps(names: Sequence[str], points: Points, sets: Comparison, detail: str) -> list[Metric]:
    away = cdist(points, points)
    k = min(statistics.neighbours(sets.count, sets.train), sets.train - 1)

    @cache  # four metrics share the groups
    def within(x: bytes, y: bytes) -> statistics.Manifolds:
        return statistics.manifolds(away, np.frombuffer(x, np.intp), np.frombuffer(y, np.intp), k)

    def statistic(kind: str, x: Indices, y: Indices) -> float:
        return float(getattr(within(x.tobytes(), y.tobytes()), kind))

    kinds = {"precision": statistics.NEIGHBOURS, "recall": statistics.NEIGHBOURS, "density": k, "coverage": k}
    return [
        sets.metric(name, partial(statistic, kind), "low", detail=f"{detail}; {used} neighbours")
        for name, (kind, used) in zip(names, kinds.items(), strict=True)
    ]


def _of_appearance(sets: Sequence[Measured], all_hearts: Comparison) -> list[Metric]:
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
    wasserstein, less = f"Wasserstein, {GREYS} greys, ED", "energy above half of Nyquist, less that of real hearts"
    return [
        all_hearts.metric("grey values", grey_distance, "high", unit="of the range", detail=wasserstein),
        all_hearts.metric("power spectrum", band_distance, "high", unit="dB", detail=f"RMS over {rings}"),
        all_hearts.metric("sharpness", sharpness, "both", unit="dB", detail=f"{less}; {rings}"),
    ]


def _diversity(sets: Sequence[Measured], max_hearts: int = 64) -> Metric:
    """Whether generated hearts differ from each other as much as real ones do."""
    images = [s["appearance.middle"][:max_hearts] for s in sets]
    few = Comparison(*(len(i) for i in images))
    table = np.zeros((0, 0)) if few.missing else _similarities(np.concatenate(images), few.real)

    def mean_of_pairs(group: Indices, _: Indices) -> float:
        return float(table[np.ix_(group, group)][np.triu_indices(len(group), k=1)].mean())

    detail = f"mean over all pairs of {few.count} mid-ventricular ED slices; higher is less varied"
    return few.metric("similarity of pairs", mean_of_pairs, "high", unit="MS-SSIM", detail=detail)


def _similarities(images: FloatArray, real: int) -> NDArray[np.float64]:
    """MS-SSIM of the pairs within the ``real`` first images ``N X X`` and within the others, ``N N``; else NaN."""
    table = np.full((len(images), len(images)), np.nan)
    with one_thread(), torch.inference_mode():
        for group in (slice(real), slice(real, None)):
            table[group, group] = ms_ssim(torch.from_numpy(images[group])).numpy()
    return table


SCALES = (0.0710, 0.4530, 0.4760)
"""The first three of Wang's five weights, normalised to a sum of 1: 64 pixels have no room for the others."""


def ms_ssim(images: Tensor, data_range: float = 2.0, taps: int = 7, sigma_px: float = 1.5) -> Tensor:
    """MS-SSIM (Wang et al., 2003) of all pairs of square images ``N X X``, ``N N``.

    As MONAI's `MultiScaleSSIMMetric`, which takes twenty times as long: it smooths both images anew for every pair.
    """
    offsets = torch.arange(taps) - (taps - 1) / 2
    window = torch.softmax(-((offsets / sigma_px) ** 2) / 2, dim=0)
    luminance_c, contrast_c = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    table = torch.ones(len(images), len(images))

    def smooth(planes: Tensor) -> Tensor:
        return rows @ planes @ rows.T

    for scale, weight in enumerate(SCALES):
        images = F.avg_pool2d(images, 2) if scale else images
        size = images.shape[-1]
        rows = torch.stack([F.pad(window, (start, size - taps - start)) for start in range(size - taps + 1)])
        mean = smooth(images)
        variance = smooth(images**2) - mean**2
        for i, image in enumerate(images):
            covariance = smooth(image * images[i:]) - mean[i] * mean[i:]
            alike = (2 * covariance + contrast_c) / (variance[i] + variance[i:] + contrast_c)
            if scale == len(SCALES) - 1:
                alike *= (2 * mean[i] * mean[i:] + luminance_c) / (mean[i] ** 2 + mean[i:] ** 2 + luminance_c)
            table[i, i:] *= alike.mean(dim=(1, 2)).relu() ** weight
    return table.triu() + table.triu(1).T


def _left_out(sets: Sequence[Measured], features: Sequence[Features]) -> list[str]:
    lines = []
    for f in (f for f in features if not f.why_missing):
        gone = [len(s) - len(_known(s[f.quantity])) for s in sets]
        if any(gone):
            counted = ", ".join(f"{n} of {len(s)} {s.title}" for n, s in zip(gone, sets, strict=True))
            lines.append(f"{f.name} leaves out {counted}: not annotated at ED and ES, or not a whole cycle.")
    return lines
