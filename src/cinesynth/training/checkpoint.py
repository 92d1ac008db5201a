"""Checkpoints without pickle: everything a run needs to go on, in shards of a size that travels (`shards`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from cinesynth.errors import WeightsError
from cinesynth.training.shards import read_shards, write_shards


def save_checkpoint(
    folder: Path, step: int, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer], state: dict[str, Any]
) -> None:
    """Write the checkpoint of ``step`` and then remove the one before."""
    tensors = {f"{name}/{k}": v for name, module in modules.items() for k, v in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        tensors |= {f"{name}.optimizer/{k}": v for k, v in _flatten(optimizer).items()}
    write_shards(folder, f"step-{step:08d}", tensors, {"step": step, **state})


def load_checkpoint(folder: Path, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer]) -> dict[str, Any]:
    """Restore the checkpoint of ``folder``; returns its state, empty if there is none."""
    found = read_shards(folder)
    if found is None:
        if any(folder.glob("step-*/state.json")):
            raise WeightsError(
                f"{folder} holds checkpoints of an older version", hint="finish the run with it, or give another --run"
            )
        return {}
    tensors, state = found
    for name, module in modules.items():
        module.load_state_dict(_of(tensors, name))
    for name, optimizer in optimizers.items():
        _restore(optimizer, _of(tensors, f"{name}.optimizer"))
    return state


def _of(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    start = f"{name}/"
    return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}


def _flatten(optimizer: Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": value for index, slot in state.items() for key, value in slot.items()}


def _restore(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
