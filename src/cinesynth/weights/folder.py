"""Weights folders: safetensors with a JSON each that states stage, configuration, parents and SHA-256.

A bundle is a folder with the four stages, the empirical prior of its training set and an index. Loading verifies that
every file is present and unaltered and that the stages were trained on each other. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cinesynth.config import STAGES, Config, parse_config
from cinesynth.config.migration import migrate_stage, stage_path
from cinesynth.errors import WeightsError
from cinesynth.io.files import atomic_path, file_sha256, write_text
from cinesynth.models.build import build, build_texture
from cinesynth.models.codec import Codec
from cinesynth.models.diffusion import LatentDiffusion
from cinesynth.models.precision import quicken, resolve_precision
from cinesynth.models.residual_motion import ResidualMotion
from cinesynth.models.texture import Texture
from cinesynth.types import Precision

FORMAT = 2
"""2: flow matching is preconditioned and cycles are temporal modes, so weights of format 1 cannot be used."""
INDEX = "bundle.json"
SCORES = "scores"
"""Key of the index with the SHA-256 of the recorded scores, which are not part of the weights."""
TEXTURE = "texture"
"""The stage of the texture network, which weights may have."""
FINGERPRINTS = "fingerprints.safetensors"
"""Fingerprints of the training subjects, if a bundle has them (see `cinesynth.memorisation.duplicate_filter`)."""
DECODES = "decoder"
"""The VAE whose decoder makes the images: that of the stage ``decoder`` where there is one, else that of ``vae``."""
PARENTS = {
    "vae": (),
    "decoder": ("vae",),
    "residual_motion": ("vae",),
    "anatomy_diffusion": ("vae",),
    "motion_diffusion": ("vae", "residual_motion"),
    "texture": (DECODES,),
    "segmenter": (),
}
"""The stages whose weights a stage was trained on; the segmenter must be independent of all others."""
ENCODES_AS = "encodes_as"
"""Key of a VAE with a fine-tuned decoder: the id of the VAE whose encoder, and latents, it shares."""


# --- Files of a folder, and its index --------------------------------------------------------------------------------


def read_json(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in ``path``; `WeightsError` names ``what`` is missing or damaged."""
    hint = "copy the whole folder again"
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise WeightsError(f"{what} is incomplete: {path.name} is missing", hint=hint) from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}", hint=hint) from None
    if not isinstance(value, dict):
        raise WeightsError(f"{path} is not a JSON object", hint=hint)
    return value


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a weights folder; `WeightsError` if it is missing, damaged or has another format."""
    index = read_json(folder / INDEX, f"the weights folder {folder}")
    if index.get("format") != FORMAT:
        raise WeightsError(
            f"{folder} has format {index.get('format')}, expected {FORMAT}",
            hint="update cinesynth; if the weights are older, train and bundle them again",
        )
    return index


def bundle_sha256(folder: Path) -> str:
    """The identity of the weights in a folder: SHA-256 of its index without recorded `SCORES`."""
    path = folder / INDEX
    index = read_json(path, f"the weights folder {folder}")
    if SCORES not in index:
        return file_sha256(path)
    return hashlib.sha256(index_text({k: v for k, v in index.items() if k != SCORES}).encode()).hexdigest()


def index_text(index: dict[str, Any]) -> str:
    """The text of an index file."""
    return json.dumps(index, indent=1)


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write a safetensors file atomically; returns its SHA-256."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary)
        return file_sha256(Path(temporary))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; `WeightsError` if it is missing or damaged."""
    if not path.is_file():
        raise WeightsError(f"{path} is missing", hint="copy the whole folder again")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}", hint="copy the file again") from None


# --- Stages, and all of them together --------------------------------------------------------------------------------


def save_stage(folder: Path, stage: str, module: nn.Module, config: Config, info: dict[str, Any]) -> str:
    """Write a finished stage with the ids of its parents; returns its own id, the SHA-256 of its weights."""
    path = folder / f"{stage}.safetensors"
    sha = write_tensors(path, module.state_dict())
    parents = {parent: _id_as(parent, stage_info(folder, source_of(folder, parent))) for parent in PARENTS[stage]}
    record = {"stage": stage, "id": sha, "sha256": sha, "parents": parents, "config": config.model_dump(mode="json")}
    write_text(folder / f"{stage}.json", json.dumps({**record, **info}, indent=1))
    return sha


def _id_as(parent: str, info: dict[str, Any]) -> str:
    """The id that a stage records of a ``parent``: a VAE of a weights folder may have the latents of an earlier one."""
    found: str = info["id"] if parent == DECODES else info.get(ENCODES_AS, info["id"])
    return found


def source_of(folder: Path, parent: str) -> str:
    """The stage whose files hold the weights of a ``parent``: ``vae`` where no decoder was fine-tuned."""
    return "vae" if parent == DECODES and not (folder / f"{DECODES}.json").is_file() else parent


def check_trained(run: Path, stages: Iterable[str]) -> None:
    """`WeightsError` that names the first of ``stages`` that is not finished in ``run``, and how to train it."""
    for stage in stages:
        path = stage_path(run, stage, ".json")
        if not path.is_file():
            raise WeightsError(
                f"stage {stage} of {run} is not finished: {path.name} is missing",
                hint=f"train it first, with the options of the other stages: cinesynth train {stage.replace('_', '-')}",
            )


def stage_info(folder: Path, stage: str) -> dict[str, Any]:
    """The JSON of a finished stage, under today's names."""
    return migrate_stage(read_json(stage_path(folder, stage, ".json"), f"stage {stage} of {folder}"))


def load_stage(folder: Path, stage: str, module: nn.Module) -> dict[str, Any]:
    """Load a stage's verified weights into ``module`` as fp32; returns its JSON. `WeightsError` if they do not fit."""
    info = stage_info(folder, stage)
    path = stage_path(folder, stage, ".safetensors")
    tensors = read_tensors(path)
    found = file_sha256(path)
    if found != info.get("sha256"):
        raise WeightsError(
            f"{path} was altered: SHA-256 {found[:12]}..., expected {str(info.get('sha256'))[:12]}...",
            hint="copy the folder again, or train the stage again",
        )
    try:
        module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    except RuntimeError as error:
        raise WeightsError(
            f"{path} does not fit its own configuration: {error}", hint="copy the folder again"
        ) from None
    return info


def has_texture(folder: Path) -> bool:
    """Whether weights have a texture network."""
    return (folder / f"{TEXTURE}.json").is_file()


def stages_in(folder: Path) -> tuple[str, ...]:
    """The stages of weights: the four, and the texture network where they have one."""
    return (*STAGES, TEXTURE) if has_texture(folder) else STAGES


def load_texture(folder: Path) -> Texture:
    """The texture network of a weights folder or a run, in evaluation mode."""
    texture = build_texture(parse_config(stage_info(folder, TEXTURE)["config"]))
    load_stage(folder, TEXTURE, texture)
    return texture.eval().requires_grad_(False)


def fingerprints_in(folder: Path) -> dict[str, Tensor] | None:
    """The fingerprints of the training subjects in ``folder``, weights or a run; None if it has none."""
    files = read_index(folder).get("files", {}) if (folder / INDEX).is_file() else {}
    return read_tensors(folder / FINGERPRINTS) if FINGERPRINTS in files else None


class Bundle(NamedTuple):
    """All that generation needs, loaded and in evaluation mode."""

    folder: Path
    config: Config
    codec: Codec
    residual_motion: ResidualMotion
    anatomy_diffusion: LatentDiffusion
    motion_diffusion: LatentDiffusion
    prior: dict[str, Any]
    info: dict[str, Any]
    precision: Literal["fp32", "bf16"]
    fingerprints: dict[str, Tensor] | None = None
    texture: Texture | None = None

    @classmethod
    def load(cls, folder: Path | str, device: torch.device | str = "cpu", precision: Precision = "auto") -> Bundle:
        """Load and verify a weights folder; `WeightsError` names what is missing, altered or mixed."""
        folder, device = Path(folder), torch.device(device)
        computed_in = resolve_precision(precision, device.type)
        index = read_index(folder)
        infos = {stage: stage_info(folder, stage) for stage in stages_in(folder)}
        check_lineage(infos)
        for name, expected in index.get("files", {}).items():
            path, hint = folder / name, "copy the whole folder again"
            if not path.is_file():
                raise WeightsError(f"{folder} is incomplete: {name} is missing", hint=hint)
            if file_sha256(path) != expected:
                raise WeightsError(f"{path} was altered: its SHA-256 differs from the one in the index", hint=hint)
        config = parse_config(infos["motion_diffusion"]["config"])
        networks = build(config)
        for stage, module in zip(STAGES, vars(networks).values(), strict=True):
            load_stage(folder, stage, module)
            module.eval().requires_grad_(False).to(device)
        texture = load_texture(folder).to(device) if TEXTURE in infos else None
        for network in (*networks.called, *([texture.network] if texture else [])):
            quicken(network, device.type, computed_in)
        prior = read_json(folder / "prior.json", f"the empirical prior of {folder}")
        fingerprints = fingerprints_in(folder)
        further: dict[str, Any] = {"prior": prior, "info": index, "fingerprints": fingerprints, "texture": texture}
        return cls(folder, config, **vars(networks), precision=computed_in, **further)


def check_lineage(infos: dict[str, dict[str, Any]]) -> None:
    """`WeightsError` if the stages were not trained on each other; ``infos`` holds the JSON of each."""
    for stage, info in infos.items():
        for parent in PARENTS[stage]:
            trained_with = infos["vae" if parent == DECODES and DECODES not in infos else parent]
            expected, found = info["parents"].get(parent), _id_as(parent, trained_with)
            if expected != found:
                raise WeightsError(
                    f"{stage} was trained with {parent} {str(expected)[:12]}..., but here is {parent} {found[:12]}...",
                    hint=f"train {stage} again, or restore the {parent} that it was trained with",
                )
