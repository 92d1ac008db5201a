"""How much of each scale of detail images hold: their radial power spectrum."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

RINGS = 16
"""Rings of equal width between frequency 0 and Nyquist."""
FLOOR = 1e-6
"""Power added to each coefficient: about that of rounding to bytes, which nobody sees and no loss chases."""


def band_powers(slices: Tensor) -> Tensor:
    """Mean power in each ring of frequencies, ``N R``, of ``N 1 X Y`` images (Hann window, orthonormal transform)."""
    images = slices[:, 0].float()
    x, y = images.shape[-2:]
    window = torch.outer(torch.hann_window(x, periodic=False), torch.hann_window(y, periodic=False)).to(images)
    centred = images - images.mean(dim=(1, 2), keepdim=True)
    power = torch.fft.rfft2(centred * window, norm="ortho").abs().square().flatten(1)  # N F
    bands: Tensor = power @ _rings(x, y).to(power) + FLOOR
    return bands


@lru_cache(maxsize=16)
def _rings(x: int, y: int) -> Tensor:
    """Weights ``F R`` that average coefficients over rings."""
    radius = torch.hypot(torch.fft.fftfreq(x)[:, None], torch.fft.rfftfreq(y)[None]).flatten() / 0.5  # 1 at Nyquist
    ring = torch.where(radius < 1.0, (radius * RINGS).long(), RINGS)
    member = torch.nn.functional.one_hot(ring, RINGS + 1)[:, :RINGS].float()
    return member / member.sum(dim=0).clamp(min=1)


def spectrum_distance(slices: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of log powers over rings (scalar): detail of the right amount, wherever it lies."""
    return (band_powers(slices).log() - band_powers(target).log()).abs().mean()


def sharpness_db(slices: Tensor, target: Tensor) -> float:
    """Power above half of Nyquist beside that of ``target``, dB, mean over images ``N 1 X Y``: 0 is as sharp."""
    fine, wanted = (band_powers(s)[:, RINGS // 2 :].mean(dim=1) for s in (slices, target))
    return float(10.0 * (fine / wanted).log10().mean())
