"""Stage 2: the network of the residual motion, and the code of a whole cycle of residuals.

The residual of frame t is ``m_t = M(z_ED, z_t)`` with ``z_ED + m_t`` decoding to frame t (paper, section 2.2).
A cycle of residuals is ``m(theta) = sum_k a_k (cos k theta - 1) + b_k sin k theta`` with ``theta = pi * phase``:
exactly zero at ED, exactly cyclic, at any number of frames.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cinesynth.config.schema import ResidualMotionConfig
from cinesynth.models.layers import Conv, Stack, broadcast_mask, make_norm
from cinesynth.types import Latent, Phases, SliceMask, Trajectory

OBSERVATION_NOISE = 1e-3
"""Variance of the observation noise in the fit of harmonics, relative to the largest variance of a residual."""


class ResidualNet(nn.Module):
    """M: the residual between the latents of ED and of another frame; untrained, it is their difference."""

    def __init__(self, config: ResidualMotionConfig, latent_channels: int) -> None:
        super().__init__()
        self.stem = Conv(2 * latent_channels, config.width, config.kernel)
        self.stack = Stack(config.width, config.blocks, config.kernel, config.norm)
        self.norm = make_norm(config.norm, config.width)
        self.head = Conv(config.width, latent_channels, config.kernel)
        nn.init.zeros_(self.head.conv.weight)
        nn.init.zeros_(self.head.conv.bias)  # type: ignore[arg-type]

    def forward(self, ed: Latent, frame: Latent, slice_mask: SliceMask) -> Latent:
        mask = broadcast_mask(slice_mask, ed)
        difference = frame - ed
        x = self.stack(self.stem(torch.cat([ed, difference], dim=1), mask), mask)
        correction: Tensor = self.head(F.silu(self.norm(x)), mask)
        return (difference + correction) * mask


class CyclicBasis:
    """The functions ``cos k theta - 1`` and ``sin k theta``, k = 1..K, all zero at ED."""

    def __init__(self, harmonics: int) -> None:
        self.harmonics = harmonics
        self.size = 2 * harmonics

    def matrix(self, phases: Tensor) -> Tensor:
        """Basis functions at ``phases`` (``... T``, period 2): ``... T 2K``, first the cosines, then the sines."""
        order = torch.arange(1, self.harmonics + 1, dtype=torch.float64)
        angle = math.pi * phases.double()[..., None] * order
        return torch.cat([angle.cos() - 1.0, angle.sin()], dim=-1)

    def energy(self) -> Tensor:
        """Gram matrix ``E`` (``2K 2K``): a course with coefficients ``a`` has the mean square ``a^T E a``."""
        # The mean over 64 evenly spaced phases is exact for fewer than half as many harmonics (Nyquist).
        rows = self.matrix(torch.arange(64, dtype=torch.float64) * (2.0 / 64))
        return rows.T @ rows / 64

    def evaluate(self, coefficients: Tensor, phases: Phases) -> Tensor:
        """Residuals ``B T C x y Z`` at ``phases`` of coefficients ``B 2K C x y Z``; exactly 0 at ED."""
        phases = phases.double() % 2.0
        basis = self.matrix(phases) * (phases != 0)[:, None]  # T 2K; cos(0) - 1 may round to something else than 0
        return torch.einsum("tj,bjcxyz->btcxyz", basis.to(coefficients), coefficients)

    def fit(self, residuals: Trajectory, phases: Phases, covariance: Tensor) -> Tensor:
        """Most probable coefficients ``2K C x y Z`` of residuals seen at ``phases`` (Gaussian process regression).

        ``covariance`` (``2K 2K``) is the prior over temporal courses. Given a whole cycle it hardly matters; given ED
        and ES alone it determines the course between them.
        """
        basis, prior = self.matrix(phases), covariance.double()
        scale = torch.einsum("tj,jk,tk->t", basis, prior, basis).max().clamp(min=1e-12)
        # Posterior mean P B^T (B P B^T + s^2 I)^-1 r: Rasmussen and Williams (2006), equation 2.25
        gram = basis @ prior @ basis.T + OBSERVATION_NOISE * scale * torch.eye(len(phases), dtype=torch.float64)
        gain = torch.linalg.solve(gram, basis @ prior).T  # 2K T
        return torch.einsum("jt,tcxyz->jcxyz", gain.to(residuals), residuals)


class HarmonicCode(nn.Module):
    """A whole cycle as ``2K`` maps of ``C`` channels, one map for each temporal mode, the strongest first.

    The modes are the Karhunen-Loeve expansion of measured cycles in the cyclic basis, orthogonal in energy over the
    cycle. The functions ``cos(k theta) - 1`` themselves are not orthogonal: several of their coefficients would encode
    the same motion. A mode with ``s`` times the energy of the first has the variance ``sqrt(s)`` in the code: strong
    modes emerge from noise first, and weak ones are not lost. Modes and scales are measured, never set.
    """

    modes: Tensor
    channel_scale: Tensor
    covariance: Tensor

    def __init__(self, harmonics: int, latent_channels: int) -> None:
        super().__init__()
        self.basis = CyclicBasis(harmonics)
        self.latent_channels = latent_channels
        self.channels = self.basis.size * latent_channels
        covariance = torch.diag(torch.arange(1, harmonics + 1, dtype=torch.float64).repeat(2) ** -4.0)
        self.register_buffer("covariance", covariance.float())
        self.register_buffer("modes", self._expand(covariance).float())
        self.register_buffer("channel_scale", torch.ones(latent_channels))

    def encode(self, residuals: Tensor, phases: Tensor) -> Tensor:
        """The residuals of one subject as a code ``(2K C) x y Z``."""
        return (self._project(residuals, phases) / self._scale()).flatten(0, 1)

    def decode(self, code: Tensor, phases: Tensor) -> Tensor:
        """Residuals ``B T C x y z`` at ``phases`` (``T``) of codes ``B (2K C) x y z``."""
        maps = code.reshape(len(code), self.basis.size, self.latent_channels, *code.shape[2:]) * self._scale()
        return self.basis.evaluate(torch.einsum("jk,bkcxyz->bjcxyz", self.modes, maps), phases)

    def observed(self, phases: Tensor) -> Tensor:
        """Projector ``2K 2K`` onto what frames at ``phases`` tell about a code: the identity for a whole cycle."""
        rows = self.basis.matrix(phases) @ self.modes.double()  # T 2K
        moving = rows[rows.norm(dim=1) > 1e-6 * rows.norm(dim=1).max()]
        projector: Tensor = torch.linalg.pinv(moving, rtol=1e-3) @ moving
        return projector.float()

    @torch.no_grad()
    def measure(self, cycles: list[tuple[Tensor, Tensor]], partial: list[tuple[Tensor, Tensor]]) -> None:
        """Measure the temporal modes on whole ``cycles``, then the channel scales on these and ``partial`` ones.

        Each item is one subject: residuals ``T C x y Z`` and phases ``T``.
        """
        if cycles:
            flat = 1e3 * torch.eye(self.basis.size)  # a prior that prefers no course
            fits = [self.basis.fit(r, p, flat).flatten(1).double() for r, p in cycles]  # 2K (C x y Z)
            moments = torch.stack([f @ f.T / (self.basis.energy() @ f @ f.T).trace() for f in fits])
            # Each cycle counts alike, however far its heart moves.
            covariance = moments.mean(0) + 1e-6 * torch.eye(self.basis.size)
            self.covariance.copy_(covariance)
            self.modes.copy_(self._expand(covariance))
        found = []
        for residuals, phases in [*cycles, *partial]:
            acquired = (residuals != 0).any(dim=0).any(dim=0).double().mean().clamp(min=1e-6)  # share of the voxels
            found.append(self._project(residuals, phases)[0].double().square().mean(dim=(1, 2, 3)) / acquired)
        squares = torch.stack(found).mean(0)  # C, mean squares of the first mode over acquired voxels
        self.channel_scale.copy_(squares.sqrt().clamp(min=1e-3 * float(squares.mean().sqrt())))

    def _expand(self, covariance: Tensor) -> Tensor:
        """The modes as columns, ``2K 2K``, each with a positive value at ES (signs are arbitrary)."""
        values, vectors = torch.linalg.eigh(self.basis.energy())
        root = vectors @ values.sqrt().diag() @ vectors.T
        shares, turns = torch.linalg.eigh(root @ covariance @ root)
        shares, turns = torch.maximum(shares.flip(0), 1e-8 * shares.max()), turns.flip(1)
        modes = torch.linalg.solve(root, turns * (shares / shares[0]) ** 0.25)
        at_es = self.basis.matrix(torch.ones(1))[0] @ modes
        towards_es: Tensor = modes * torch.where(at_es < 0, -1.0, 1.0)
        return towards_es

    def _project(self, residuals: Tensor, phases: Tensor) -> Tensor:
        """Coefficients of the modes, ``2K C x y Z``."""
        coefficients = self.basis.fit(residuals, phases, self.covariance)
        return torch.einsum("kj,jcxyz->kcxyz", torch.linalg.inv(self.modes.double()).to(coefficients), coefficients)

    def _scale(self) -> Tensor:
        return self.channel_scale[:, None, None, None]


class FrameCode(nn.Module):
    """One residual for each frame, at unit scale, as in the paper: the phase is then a condition."""

    channel_scale: Tensor

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        self.latent_channels = self.channels = latent_channels
        self.register_buffer("channel_scale", torch.ones(latent_channels))

    def encode(self, residual: Tensor) -> Tensor:
        """Residuals ``B C x y Z`` at unit scale."""
        return residual / self._scale()

    def decode(self, code: Tensor, phases: Tensor) -> Tensor:
        """Residuals of codes ``B C x y Z`` at ``phases`` (``B``); exactly 0 at ED."""
        moving = (phases % 2.0 != 0).to(code)[:, None, None, None, None]
        return code * self._scale() * moving

    @torch.no_grad()
    def measure(self, residuals: list[Tensor]) -> None:
        """Measure the scale on the residuals ``T C x y Z`` of each subject, without ED; `ValueError` if all are 0."""
        squares = torch.stack([r.double().square().sum(dim=(0, 2, 3, 4)) for r in residuals]).sum(0)
        count = sum(float((r != 0).any(dim=1).sum()) for r in residuals)
        if count == 0:
            raise ValueError("no moving frame to measure the residual scale on")
        self.channel_scale.copy_((squares / count).sqrt().clamp(min=1e-4))

    def _scale(self) -> Tensor:
        return self.channel_scale[None, :, None, None, None]


class ResidualMotion(nn.Module):
    """The result of stage 2: the network M and the code in which stage 4 generates its residuals."""

    def __init__(self, config: ResidualMotionConfig, latent_channels: int) -> None:
        super().__init__()
        self.config = config
        self.network = ResidualNet(config, latent_channels)
        self.code: HarmonicCode | FrameCode = (
            HarmonicCode(config.harmonics, latent_channels) if config.harmonics else FrameCode(latent_channels)
        )
