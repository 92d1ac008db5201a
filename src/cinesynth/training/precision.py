"""Which numbers a machine multiplies fastest."""

from __future__ import annotations

import torch


def resolve_precision(precision: str) -> str:
    """accelerate's name of a precision; ``auto`` takes bf16 only where the hardware multiplies it."""
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else _cpu_multiplies_bf16()
        return "bf16" if fast else "no"
    return {"fp32": "no", "bf16": "bf16"}[precision]


def _cpu_multiplies_bf16() -> bool:
    features = torch.backends.cpu.get_cpu_capability()
    return "AMX" in features.upper() or bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
