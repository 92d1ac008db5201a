"""Latent diffusion: a denoising network with its path, which defines what the network predicts, and with guidance."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cinesynth.config.schema import DiffusionConfig
from cinesynth.models.conditioning import Conditions
from cinesynth.models.denoiser import DenoiserUNet
from cinesynth.models.layers import broadcast_mask
from cinesynth.models.paths import DiffusionPath, FlowPath, NoisePath, VPath, add_noise, cumulative_alphas
from cinesynth.models.solvers import Denoiser, StepCallback, make_solver, sample, vary
from cinesynth.types import AnatomyLatent, Latent, PerCase, Scalar, SliceMask

SPACE = (1, 2, 3, 4)
"""All axes of codes ``B C x y Z`` but that of the cases."""


class LatentDiffusion(nn.Module):
    """A U-Net with its objective: `loss` in training, `sample` in generation."""

    alphas_cumprod: Tensor

    def __init__(self, network: DenoiserUNet, config: DiffusionConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config
        # A buffer, so that it moves with the model; not stored, as it is the same for all weights.
        self.register_buffer("alphas_cumprod", cumulative_alphas(), persistent=False)

    @property
    def path(self) -> DiffusionPath:
        """The path from clean codes to noise that the objective means."""
        if self.config.objective == "flow":
            return FlowPath(self.config.time_shift)
        return VPath(self.alphas_cumprod) if self.config.objective == "v" else NoisePath(self.alphas_cumprod)

    def loss(
        self,
        clean: Latent,
        noise: Latent,
        uniforms: PerCase,
        conditions: Conditions,
        slice_mask: SliceMask,
        anatomy: AnatomyLatent | None = None,
        project: Callable[[Tensor], Tensor] | None = None,
    ) -> Scalar:
        """Mean squared error over acquired slices; ``project`` keeps the part of the error that was observed."""
        path = self.path
        time = path.draw_times(uniforms)
        noisy, target = add_noise(path, clean, noise, time), path.target(clean, noise, time)
        error = self.predict(noisy, time, conditions, slice_mask, anatomy) - target
        if project is not None:
            error = project(error)
        mask = broadcast_mask(slice_mask, error)
        per_case = (error * mask).square().sum(dim=SPACE) / (mask.expand_as(error).sum(dim=SPACE))
        return (per_case * path.loss_weight(time)).mean()

    def predict(
        self, noisy: Latent, time: PerCase, conditions: Conditions, slice_mask: SliceMask, anatomy: AnatomyLatent | None
    ) -> Latent:
        """Noise, v or velocity at ``time`` (0 clean, 1 noise), as the path defines it."""
        answer: Tensor = self.network(noisy, time, conditions, slice_mask, anatomy).float()
        return self.path.precondition(answer, noisy, time, slice_mask)

    @torch.no_grad()
    def sample(
        self,
        noise: Latent,
        conditions: Conditions,
        slice_mask: SliceMask,
        anatomy: AnatomyLatent | None = None,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        start: Latent | None = None,
        strength: float = 1.0,
        callback: StepCallback | None = None,
    ) -> Latent:
        """Clean codes from ``noise``, zero on slices that were not acquired.

        Guidance 1 and 0 cost one pass a step, others a pass of twice the batch. With clean codes as ``start``, the
        result is a variation of them: ``strength`` 0 gives them back, 1 ignores them. ``callback(step, steps)`` is
        called after each call of the network.
        """
        solver = make_solver(self.config, steps or self.config.sampling_steps)
        denoiser = self.denoiser(conditions, slice_mask, anatomy, guidance)
        if start is None:
            codes = sample(denoiser, noise, solver, callback)
        else:
            codes = vary(denoiser, self.path, start, noise, solver, strength, callback)
        return codes * broadcast_mask(slice_mask, codes)

    def denoiser(
        self,
        conditions: Conditions,
        slice_mask: SliceMask,
        anatomy: AnatomyLatent | None = None,
        guidance: float | None = None,
    ) -> Denoiser:
        """The network under conditions as a function of noisy codes and one time, by default guided as the config says.

        Classifier-free guidance with scale ``s`` is ``u + s (c - u)`` (Ho and Salimans, 2022): 0 is unconditional, 1
        conditional. It acts inside the guidance interval alone (Kynkäänniemi et al., 2024).
        """
        scale = self.config.guidance if guidance is None else guidance
        low, high = self.config.guidance_interval
        asked = conditions.unconditional() if scale == 0.0 else conditions

        def denoise(x: Tensor, at: float) -> Tensor:
            time = torch.full((len(x),), at, device=x.device)
            if scale in (0.0, 1.0) or not low <= float(time[0]) <= high:
                return self.predict(x, time, asked, slice_mask, anatomy)
            both = self.predict(
                torch.cat([x, x]),  # 2B C x y Z: with the conditions, then without
                torch.cat([time, time]),
                conditions.and_unconditional(),
                torch.cat([slice_mask, slice_mask]),
                None if anatomy is None else torch.cat([anatomy, anatomy]),
            )
            conditional, unconditional = both.chunk(2)
            guided = torch.lerp(unconditional, conditional, scale)
            share = self.config.guidance_rescale
            if share == 0.0:
                return guided
            # The norm over acquired slices moves to that of the conditional output by a share (Lin et al., 2024).
            masked = [output * broadcast_mask(slice_mask, output) for output in (conditional, guided)]
            norm, own = (output.square().sum(dim=SPACE, keepdim=True).sqrt() for output in masked)  # B 1 1 1 1 each
            return guided * torch.lerp(torch.ones_like(own), norm / own, share)

        return denoise
