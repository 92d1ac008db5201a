"""Preview pictures of models in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from cinesynth.io.files import atomic_path
from cinesynth.models.vae import Decoded
from cinesynth.reports.slices import COLOURS


def save_reconstructions(path: Path, pairs: list[tuple[dict[str, Tensor], Decoded]]) -> None:
    """A column a case: mid slice of the input, its reconstruction, the predicted mask on the input."""
    columns = []
    for batch, decoded in pairs:
        middle = int(batch["slice_mask"][0].nonzero()[:, 0].float().mean())
        image = _grey(batch["image"][0, 0, :, :, middle])
        label = decoded.logits[0, ..., middle].argmax(dim=0)
        columns.append([image, _grey(decoded.image[0, 0, :, :, middle]), _paint(image, label)])
    save_grid(path, columns)


def save_samples(path: Path, moments: list[Decoded], slice_mask: Tensor) -> None:
    """A column a case: base, middle and apex of generated volumes with their masks, one time point below the other."""
    columns = []
    for case in range(len(slice_mask)):  # B Z
        acquired = slice_mask[case].nonzero()[:, 0]
        column = []
        for decoded in moments:
            for z in (int(acquired[int(part * (len(acquired) - 1))]) for part in (0.2, 0.5, 0.8)):
                image = _grey(decoded.image[case, 0, :, :, z])
                column += [image, _paint(image, decoded.logits[case, ..., z].argmax(dim=0))]
        columns.append(column)
    save_grid(path, columns)


def save_masks(path: Path, columns: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    """A column a case: a slice ``X Y``, the slice with its annotation, the slice with a predicted label."""
    painted = []
    for plane, *labels in columns:
        image = _grey(plane)
        painted.append([image, *(_paint(image, label) for label in labels)])
    save_grid(path, painted)


def save_grid(path: Path, columns: list[list[np.ndarray]]) -> None:
    """Write columns of equally large RGB pictures as one PNG, each pixel twice as large."""
    sheet = np.concatenate([np.concatenate(column, axis=0) for column in columns], axis=1)
    picture = Image.fromarray(sheet).resize((2 * sheet.shape[1], 2 * sheet.shape[0]), Image.Resampling.NEAREST)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


def _grey(plane: Tensor) -> np.ndarray:
    grey = ((plane.float().cpu().numpy().T.clip(-1, 1) + 1) * 127.5).astype(np.uint8)  # rows are y, as on a screen
    return np.repeat(grey[..., None], 3, axis=2)


def _paint(image: np.ndarray, label: Tensor) -> np.ndarray:
    painted = image.astype(np.float32)
    for structure, colour in COLOURS.items():
        inside = structure == label.cpu().numpy().T
        painted[inside] = 0.55 * painted[inside] + 0.45 * np.array(colour)
    return painted.astype(np.uint8)
