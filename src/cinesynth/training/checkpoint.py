"""Everything that a run needs to resume: its folder, and checkpoints without pickle.

The folder holds one resolved config and the hash of one dataset; files of checkpoints are small enough for most file
stores.
"""

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

from cinesynth.config import STAGES, Config, dump_config, load_config
from cinesynth.config.migration import stage_path
from cinesynth.errors import ConfigError, DataError, WeightsError
from cinesynth.io.files import file_sha256, make_folder, write_text, writing
from cinesynth.weights.folder import PARENTS, check_trained, read_json, read_tensors, source_of


def open_run(path: Path, config: Config, data_hash: str, stage: str) -> Path:
    """Open or make the folder of a run for ``stage``; refuses to resume it with other settings or other data.

    Settings of stages without a checkpoint may change: nothing depends on them yet. `WeightsError` if a stage that this
    one learns from is not finished.
    """
    check_trained(path, [source_of(path, parent) for parent in PARENTS[stage]])
    folder = make_folder(path)
    config_file, data_file = folder / "config.yaml", folder / "data.json"
    changed: list[str] = []
    if config_file.is_file():
        before, now = (_leaves(each.model_dump()) for each in (load_config(str(config_file)), config))
        changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        fixed = [key for key in changed if not _is_open(folder, key)]
        if fixed:
            lines = [f"{key}: {before.get(key)} in the run, {now.get(key)} now" for key in fixed[:8]]
            raise ConfigError(
                f"{folder} was started with other settings\n" + "\n".join(lines),
                hint="use the same settings, or another --run; to train a stage anew, first remove its folder there",
            )
    if data_file.is_file() and read_json(data_file, f"run {folder}").get("data_hash") != data_hash:
        raise DataError(f"{folder} was started on other data", hint="use the same dataset, or another --run")
    if not config_file.exists() or changed:
        write_text(config_file, dump_config(config))
    if not data_file.exists():
        write_text(data_file, json.dumps({"data_hash": data_hash}))
    return folder


def _is_open(folder: Path, key: str) -> bool:
    """Whether ``key`` is a setting of a stage that has neither a checkpoint nor weights in this run."""
    section, _, rest = key.partition(".")
    stage = rest.partition(".")[0]
    if section != "training" or stage not in (*STAGES, "decoder", "texture", "segmenter"):
        return False
    checkpoint = stage_path(folder, stage) / "checkpoints" / INDEX
    return not checkpoint.exists() and not stage_path(folder, stage, ".json").exists()


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def save_checkpoint(
    folder: Path, step: int, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer], state: dict[str, Any]
) -> None:
    """Write the checkpoint of ``step``, then remove the previous one."""
    tensors = {f"{name}/{k}": v for name, module in modules.items() for k, v in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        slots = optimizer.state_dict()["state"].items()
        tensors |= {f"{name}.optimizer/{index}.{key}": v for index, slot in slots for key, v in slot.items()}
    write_shards(folder, f"step-{step:08d}", tensors, {"step": step, **state})


@torch.no_grad()
def load_checkpoint(folder: Path, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer]) -> dict[str, Any]:
    """Restore the checkpoint in ``folder``; returns its state, empty if there is none."""
    found = read_shards(folder)
    if found is None:
        if any(folder.glob("step-*/state.json")):
            raise WeightsError(
                f"{folder} holds checkpoints of an older version",
                hint="finish this run with the older version, or use another --run",
            )
        return {}
    tensors, state = found
    for name, module in modules.items():
        module.load_state_dict(_of(tensors, name))
    for name, optimizer in optimizers.items():
        slots: dict[int, dict[str, Tensor]] = {}
        for path, value in _of(tensors, f"{name}.optimizer").items():
            index, key = path.split(".", 1)
            slots.setdefault(int(index), {})[key] = value
        for number, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
            slot = slots.get(number, {})
            for key, value in slot.items():
                if value.shape == parameter.shape:  # a fused optimiser takes moments in the layout of their parameter
                    slot[key] = torch.empty_like(parameter).copy_(value)
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return state


def _of(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    start = f"{name}/"
    return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}


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
    """The tensors in ``folder`` and the index, or None; `WeightsError` for a missing, damaged or foreign shard."""
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
    tensors = {}
    for name, entry in index["tensors"].items():
        pieces = [files[file][key] for file, key in entry["pieces"]]
        tensors[name] = torch.cat(pieces).reshape(entry["shape"])
    return tensors, index


def _hint(folder: Path) -> str:
    return f"restore {folder.name}, or delete it to train its content again"


def _packed(tensors: dict[str, Tensor], limit_bytes: int) -> Iterator[list[Piece]]:
    """Pieces in order, as many at a time as fit one file."""
    held: list[Piece] = []
    room = limit_bytes
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        step = max(1, limit_bytes // flat.element_size())
        for offset in range(0, max(1, prod(tensor.shape)), step):
            piece = flat[offset : offset + step].clone()
            if held and piece.nbytes > room:
                yield held
                held, room = [], limit_bytes
            held.append((name, offset, piece))
            room -= piece.nbytes
    if held:
        yield held
