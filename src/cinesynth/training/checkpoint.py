"""Checkpoints without pickle: tensors in safetensors, the rest in JSON, a folder renamed into place when complete."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from cinesynth.atomic import make_folder, writing
from cinesynth.models.weights import read_json, read_tensors

KEEP = 2


def save_checkpoint(
    folder: Path, step: int, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer], state: dict[str, Any]
) -> None:
    """Write ``folder/step-00000123`` and remove all but the newest checkpoints."""
    target = folder / f"step-{step:08d}"
    if target.exists():
        return
    temporary = make_folder(folder) / f".tmp-{os.getpid()}-{target.name}"
    make_folder(temporary)
    try:
        with writing(target):
            for name, module in modules.items():
                save_file(
                    {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()},
                    temporary / f"{name}.safetensors",
                )
            for name, optimizer in optimizers.items():
                save_file(_flatten(optimizer), temporary / f"{name}.optimizer.safetensors")
            (temporary / "state.json").write_text(json.dumps({"step": step, **state}))
            os.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in _complete(folder)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer]) -> dict[str, Any]:
    """Restore the newest complete checkpoint of ``folder``; returns its state, empty if there is none."""
    for leftover in folder.glob(".tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    found = _complete(folder)
    if not found:
        return {}
    newest = found[-1]
    for name, module in modules.items():
        module.load_state_dict(read_tensors(newest / f"{name}.safetensors"))
    for name, optimizer in optimizers.items():
        _restore(optimizer, read_tensors(newest / f"{name}.optimizer.safetensors"))
    return read_json(newest / "state.json", f"checkpoint {newest}")


def _complete(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step-*") if (p / "state.json").is_file())


def _flatten(optimizer: Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": value.cpu().contiguous() for index, slot in state.items() for key, value in slot.items()}


def _restore(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
