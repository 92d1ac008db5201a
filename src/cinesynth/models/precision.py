"""Numeric precision: bf16 where the hardware multiplies it natively, fp32 elsewhere; and the memory layout for it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from cinesynth.types import Precision

MIXED_PRECISION = {"fp32": "no", "bf16": "bf16"}
"""accelerate's names."""


def resolve_precision(precision: Precision, device: str = "") -> Literal["fp32", "bf16"]:
    """What ``precision`` means on a kind of ``device`` (default: CUDA, if there is any, or the CPU).

    ``auto`` is bf16 if the hardware multiplies it natively. There a convolution in bf16 takes a fourth of the time
    (CPUs with AMX) or half of it (AVX512-BF16).
    """
    if precision != "auto":
        return precision
    if (device or ("cuda" if torch.cuda.is_available() else "cpu")) == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        fast = any(getattr(torch.cpu, name, lambda: False)() for name in asked)
    return "bf16" if fast else "fp32"


def quicken(network: nn.Module, device: str, precision: Literal["fp32", "bf16"]) -> None:
    """Lay a frozen network out channels last; with bf16, cast its weights once and run it under autocast.

    Its answers may then be bf16.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            layout = torch.channels_last if isinstance(module, nn.Conv2d) else torch.channels_last_3d
            module.to(memory_format=layout)  # type: ignore[call-overload]
        if precision == "bf16" and isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            module.to(torch.bfloat16)
    if precision == "bf16":
        network.forward = torch.autocast(device, torch.bfloat16)(network.forward)
