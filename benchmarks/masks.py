"""What becomes of the likeliest structures of a mask decoder when they are drawn as people draw them, part by part.

    python benchmarks/masks.py --data hearts --weights compact --split validation

ED and ES of people who were not trained on are encoded and decoded; their masks are held against the annotations on
the grid of the weights. Prints means of Dice, HD95 and the LV's volume error for what `cinesynth.models.codec` does,
one step after another.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cinesynth.config import parse_config
from cinesynth.data.geometry import Grid, slice_mask
from cinesynth.data.normalisation import from_uint8
from cinesynth.data.packed import prepare
from cinesynth.evaluation.agreement import overlap
from cinesynth.evaluation.cases import without_phantoms
from cinesynth.models.codec import clean_mask, one_heart
from cinesynth.types import STRUCTURES, Label, LabelArray
from cinesynth.weights.folder import Bundle, stage_info
from cinesynth.weights.registry import find_bundle

Candidate = Callable[[LabelArray, float], LabelArray]


WAYS: dict[str, Candidate] = {
    "likeliest": lambda label, _: label,
    "the largest heart alone": lambda label, _: one_heart(label),
    "as people draw": clean_mask,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--split", default="validation")
    arguments = parser.parse_args()
    folder = find_bundle(arguments.weights)
    codec = Bundle.load(folder, "cpu").codec
    people = without_phantoms(
        prepare(arguments.data, Grid.from_config(parse_config(stage_info(folder, "vae")["config"]).grid)).split(
            arguments.split
        )
    )
    found: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    for i, record in enumerate(people.records):
        acquired = slice_mask(record.slices, people.grid.size[2])
        for frame in (record.ed, record.es):
            if record.labelled[frame]:
                likeliest = decoded(codec, people.image(i, frame), acquired)
                truth, coverage = people.label(i, frame)[..., acquired], record.coverage[frame][acquired]
                for name, draw in WAYS.items():
                    found[name].append(
                        judged(draw(likeliest, people.grid.spacing_mm[0] ** 2), truth, coverage, people.grid)
                    )
    print(f"{len(found['likeliest'])} frames of {len(people.records)} people\n")
    print(
        "| | "
        + " | ".join(
            [*(f"Dice {s.name}" for s in STRUCTURES), *(f"HD95 {s.name}, mm" for s in STRUCTURES), "LV volume error, %"]
        )
        + " |"
    )
    print("|---" * 8 + "|")
    for name, rows in found.items():
        means = np.nanmean(np.array(rows), axis=0)
        print(f"| {name} | " + " | ".join([*(f"{x:.3f}" for x in means[:3]), *(f"{x:.1f}" for x in means[3:])]) + " |")


@torch.inference_mode()
def decoded(codec: torch.nn.Module, image: np.ndarray, acquired: np.ndarray) -> LabelArray:
    mask = torch.from_numpy(acquired)[None]
    latent = codec.encode(torch.from_numpy(from_uint8(image))[None, None], mask)
    return codec.decode(latent, mask).logits.argmax(dim=1)[0].numpy().astype(np.uint8)[..., acquired]


def judged(label: LabelArray, truth: LabelArray, coverage: np.ndarray, grid: Grid) -> list[float]:
    dice, hd95, _ = overlap(label[None], truth[None], coverage[None], grid.spacing_mm)
    lv = coverage[:, STRUCTURES.index(Label.LV)]
    found, true = ((x[..., lv] == Label.LV).sum() for x in (label, truth))
    return [*dice[0].tolist(), *hd95[0].tolist(), 100.0 * abs(found / true - 1.0) if true else np.nan]


if __name__ == "__main__":
    main()
