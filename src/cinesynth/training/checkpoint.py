"""Checkpoints without pickle: everything that a run needs to resume, in files small enough for most file stores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from cinesynth.errors import WeightsError
from cinesynth.io.files import file_sha256, make_folder, write_text, writing
from cinesynth.weights.folder import read_json, read_tensors


def save_checkpoint(
    folder: Path, step: int, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer], state: dict[str, Any]
) -> None:
    """Write the checkpoint of ``step``, then remove the previous one."""
    tensors = {f"{name}/{k}": v for name, module in modules.items() for k, v in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        tensors |= {f"{name}.optimizer/{k}": v for k, v in _flatten(optimizer).items()}
    write_shards(folder, f"step-{step:08d}", tensors, {"step": step, **state})


def load_checkpoint(folder: Path, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer]) -> dict[str, Any]:
    """Restore the checkpoint in ``folder``; returns its state, empty if there is none."""
    found = read_shards(folder)
    if found is None:
        if any(folder.glob("step-*/state.json")):
            raise WeightsError(
                f"{folder} holds checkpoints of an older version",
                hint="finish it with that version, or use another --run",
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


# --- Many tensors in a folder of small safetensors files, valid once their index is written --------------------------


SHARD_BYTES = 15 << 20
"""Most bytes of tensors in one file: with its header it stays below 16 MiB. Larger tensors are cut into pieces."""
INDEX = "index.json"
FORMAT = 1

Piece = tuple[str, int, Tensor]
"""Name of the tensor, offset in elements, the elements from there on."""


def write_shards(
    folder: Path, tag: str, tensors: dict[str, Tensor], info: dict[str, Any], limit_bytes: int = SHARD_BYTES
) -> None:
    """Replace the content of ``folder`` by ``tensors`` and ``info`` (JSON); ``tag``, new each time, names the files."""
    make_folder(folder)
    index: dict[str, Any] = {"format": FORMAT, **info, "files": {}, "tensors": {}}
    for name, tensor in tensors.items():
        index["tensors"][name] = {"shape": list(tensor.shape), "pieces": []}
    for number, pieces in enumerate(_packed(tensors, limit_bytes)):
        path = folder / f"{tag}-{number:04d}.safetensors"
        with writing(path):
            path.write_bytes(save({f"{name}@{offset}": piece for name, offset, piece in pieces}))
            index["files"][path.name] = file_sha256(path)
        for name, offset, _ in pieces:
            index["tensors"][name]["pieces"].append([path.name, f"{name}@{offset}"])
    write_text(folder / INDEX, json.dumps(index))  # from here on the new tensors are valid, and the old files useless
    for path in folder.glob("*.safetensors"):
        if path.name not in index["files"]:
            with suppress(OSError):
                path.unlink()


def read_shards(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The tensors in ``folder`` and the index, or None if none were written.

    Raises `WeightsError` for a shard that is missing, damaged or of another checkpoint.
    """
    if not (folder / INDEX).is_file():
        return None
    index = read_json(folder / INDEX, f"the index of {folder}")
    if index.get("format") != FORMAT:
        raise WeightsError(f"{folder} has format {index.get('format')}, expected {FORMAT}", hint=_hint(folder))
    files: dict[str, dict[str, Tensor]] = {}
    for name, expected in index["files"].items():
        path = folder / name
        if not path.is_file():
            raise WeightsError(f"{path} is missing: the index names {len(index['files'])} shards", hint=_hint(folder))
        if file_sha256(path) != expected:
            raise WeightsError(f"{path} is damaged: its SHA-256 differs from that in the index", hint=_hint(folder))
        files[name] = read_tensors(path)
    return {name: _joined(entry, files) for name, entry in index["tensors"].items()}, index


def _joined(entry: dict[str, Any], files: dict[str, dict[str, Tensor]]) -> Tensor:
    pieces = [files[name][key] for name, key in entry["pieces"]]
    return torch.cat(pieces).reshape(entry["shape"])


def _hint(folder: Path) -> str:
    return f"restore {folder.name}, or delete it to train its content again"


def _packed(tensors: dict[str, Tensor], limit_bytes: int) -> Iterator[list[Piece]]:
    """Pieces in order, as many at a time as fit one file."""
    held: list[Piece] = []
    room = limit_bytes
    for piece in _pieces(tensors, limit_bytes):
        size = piece[2].nbytes
        if held and size > room:
            yield held
            held, room = [], limit_bytes
        held.append(piece)
        room -= size
    if held:
        yield held


def _pieces(tensors: dict[str, Tensor], limit_bytes: int) -> Iterator[Piece]:
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        step = max(1, limit_bytes // flat.element_size())
        for offset in range(0, max(1, prod(tensor.shape)), step):
            yield name, offset, flat[offset : offset + step].clone()
