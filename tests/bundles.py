"""Random weights in the form of finished ones: what generation promises must hold for any weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cinesynth.config import STAGES, Config, load_config
from cinesynth.data.packed import Record
from cinesynth.models.build import build, build_texture
from cinesynth.models.vae import VAE
from cinesynth.types import ClinicalPrior, Diagnosis, Label
from cinesynth.weights.bundle import write_bundle
from cinesynth.weights.folder import TEXTURE, save_stage
from cinesynth.weights.prior import EmpiricalPrior
from cinesynth.weights.prior_fit import fit

SMALL = ("grid.size=[32,32,12]", "vae.channels=[8,8]", "residual_motion.width=8")
SMALL += tuple(f"{stage}.denoiser.channels=[8,8]" for stage in ("anatomy_diffusion", "motion_diffusion"))
SMALL += tuple(f"{stage}.diffusion.sampling_steps=3" for stage in ("anatomy_diffusion", "motion_diffusion"))
HEARTS = {  # EDV mL, EF %, slices: roughly ACDC's
    Diagnosis.NOR: (130.0, 62.0, 8),
    Diagnosis.DCM: (280.0, 20.0, 10),
    Diagnosis.HCM: (130.0, 70.0, 8),
}


def record(subject: str, diagnosis: Diagnosis, edv_ml: float | None, ef_percent: float, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "subject": subject,
        "dataset": "test",
        "vendor": "none",
        "diagnosis": diagnosis,
        "split": "train",
        "phases": np.array([0.0, 1.0]),
        "coverage": np.ones((2, 12, 3), dtype=bool),
        "slices": 9,
        "ed": 0,
        "es": 1,
        "frames_in_cycle": 25,
        "es_index_from_ed": 10,
        "lv_edv_ml": edv_ml,
        "lv_esv_ml": None if edv_ml is None else edv_ml * (1 - ef_percent / 100),
        "frame_time_ms": 32.0,
    }
    return Record(**{**values, **changes})


def records(count: int = 20) -> list[Record]:
    rng = np.random.default_rng(5)
    found = []
    for diagnosis, (edv, ef, slices) in HEARTS.items():
        for i in range(count):
            size = rng.normal()
            drawn = int(np.clip(round(slices + 0.8 * size + 0.3 * rng.normal()), 6, 12))
            name = f"{diagnosis.value}{i}"
            found.append(record(name, diagnosis, edv * 1.2**size, ef + 3 * rng.normal(), slices=drawn))
    return found


def people(count: int = 40) -> tuple[list[Record], list[ClinicalPrior]]:
    """The RV is as large as the LV, with half of its EF's logit; GE scans the large hearts, without an RV."""
    rng, found, known = np.random.default_rng(2), [], []
    for one in records(count):
        edv, share = one.lv_edv_ml, 1.0 - one.lv_esv_ml / one.lv_edv_ml
        vendor = "GE" if one.diagnosis is Diagnosis.DCM and edv > HEARTS[Diagnosis.DCM][0] else "Siemens"
        rv_edv = edv * 1.05 ** rng.normal()
        rv_ef = 1.0 / (1.0 + np.exp(-0.5 * np.log(share / (1.0 - share)) - 0.05 * rng.normal()))
        rv = (None, None) if vendor == "GE" else (rv_edv, rv_edv * (1.0 - rv_ef))
        mass = 0.8 * edv * 1.05 ** rng.normal()
        known.append(ClinicalPrior(one.diagnosis, edv, one.lv_esv_ml, one.slices, *rv, mass, vendor))
        found.append(replace(one, vendor=vendor))
    return found, known


def see_hearts(vae: VAE) -> None:
    """Let random masks be of whole blocks, large parts of LV and myocardium: no part of pixel noise is a heart."""
    decoder = vae.decoders[-1]
    pixels, labels = decoder.fold**2, len(Label)
    for parameter in decoder.head.parameters():  # outputs first, each of so many pixels
        of_label = parameter.data[-labels * pixels :].unflatten(0, (labels, pixels))
        of_label[:] = of_label[:, :1].clone()


def make_bundle(folder: Path, *changes: str, prior: EmpiricalPrior | None = None, texture: bool = False) -> Path:
    """A weights folder of random networks whose zero-initialised layers were woken."""
    config: Config = load_config("smoke", [*SMALL, *changes])
    torch.manual_seed(0)
    networks = vars(build(config)) | ({TEXTURE: build_texture(config)} if texture else {})
    for module in networks.values():
        for parameter in module.parameters():
            if parameter.dim() > 1 and not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    see_hearts(networks["codec"].vae)
    if texture:
        networks[TEXTURE].persistence.fill_(0.5)
    for stage in (*STAGES, *([TEXTURE] if texture else [])):
        save_stage(folder / "run", stage, networks["codec" if stage == "vae" else stage], config, {})
    known = (prior or fit(records())).to_json()
    write_bundle(folder / "run", folder / "weights", known, {"licence": "none: random numbers"})
    return folder / "weights"
