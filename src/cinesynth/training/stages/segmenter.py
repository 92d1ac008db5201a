"""The independent segmenter of the evaluation, trained on annotated frames of patients alone.

It shares nothing with the codec: another network, another loss, no generated images and, if there are patients, no
phantoms. If it segments a generated image as the generated mask does, then image and mask agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cinesynth.config import Config
from cinesynth.data.packed import PackedDataset
from cinesynth.errors import DataError
from cinesynth.models.segmenter import SliceUNet, with_neighbours
from cinesynth.training.frames import Batch, FrameSampler, Prefetch
from cinesynth.training.losses import dice_ce, dice_scores
from cinesynth.training.preview import save_masks
from cinesynth.training.stages import Loss, evenly_spaced


class SegmenterStage:
    """Trains a `SliceUNet` on the acquired slices of random annotated frames."""

    name = "segmenter"

    def __init__(
        self,
        network: SliceUNet,
        config: Config,
        train: PackedDataset,
        held_out: PackedDataset,
        device: torch.device,
        generated_share: float | None = None,
    ) -> None:
        """``generated_share`` of the frames are generated hearts; by default they are drawn as often as real ones."""
        self.settings, self.device, self.seed = config.training.segmenter, device, config.training.seed
        self.neighbours, self.generated_share = network.neighbours, generated_share
        self.frames = self._annotated(train, "in the training split")
        self.held_out = self._annotated(held_out, "in the validation split")
        self.batches = Prefetch(self._batch, self.settings.steps)
        self.modules: dict[str, nn.Module] = {"model": network}

    def _annotated(self, part: PackedDataset, purpose: str) -> FrameSampler:
        kept = part.where([bool(record.labelled.any()) for record in part.records])
        if not kept.records:
            raise DataError(
                f"no labelled subjects {purpose}",
                hint="ingest subjects with labels, or change the split fractions",
            )
        return FrameSampler(kept, self.seed, self.settings.phantom_share, self.generated_share)

    def losses(self, step: int, cases: range) -> Iterator[Loss]:
        """Dice and cross-entropy of all acquired slices of the step's frames."""
        batch = {name: tensor.to(self.device) for name, tensor in self.batches(step, cases).items()}
        logits = self.modules["model"](batch["slices"])
        # A slice is a case of the loss: N 4 X Y 1, with one slice each.
        loss = dice_ce(logits[..., None], batch["label"][:, None, ..., None], batch["coverage"][:, None])
        yield Loss("model", loss)

    def _batch(self, step: int, cases: range) -> Batch:
        return self._collate([self._view(step, case) for case in cases])

    def _view(self, step: int, case: int) -> dict[str, Tensor]:
        """A random annotated frame through a random view, as another scanner might show it."""
        strength = 1.0 if self.settings.augment else 0.0
        return self._slices(self.frames.augmented(step, case, self.settings.crop, strength, annotated=True))

    def _slices(self, item: dict[str, Tensor]) -> dict[str, Tensor]:
        """The acquired slices of a frame: ``Z 1+2K X Y``, labels ``Z X Y``, coverage ``Z S``."""
        mask = item["slice_mask"]
        return {
            "slices": with_neighbours(item["image"][0][..., mask], self.neighbours),
            "label": item["label"][0][..., mask].movedim(-1, 0),
            "coverage": item["coverage"][mask],
        }

    def _collate(self, items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {key: torch.cat([item[key] for item in items]) for key in items[0]}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Mean Dice of each structure over annotated ED and ES frames of validation subjects, whole and unaugmented."""
        found: dict[str, list[float]] = {}
        for batch in self._validation_batches():
            predicted, truth = self._stack(model(batch["slices"]).argmax(dim=1)), self._stack(batch["label"].long())
            for name, value in dice_scores(predicted, truth, batch["coverage"][None]).items():
                found.setdefault(name, []).append(value)
        mean = {name: float(np.mean(values)) for name, values in found.items()}
        return {**mean, "score": 1.0 - float(np.mean(list(mean.values())))}

    def _stack(self, slices: Tensor) -> Tensor:
        """``Z X Y`` to ``1 X Y Z``."""
        return slices.movedim(0, -1)[None]

    def preview(self, model: nn.Module, path: Path) -> None:
        """Middle slices of validation subjects with their annotation and their segmentation."""
        columns = []
        for batch in self._validation_batches()[:4]:
            middle = len(batch["slices"]) // 2
            predicted = model(batch["slices"][middle : middle + 1]).argmax(dim=1)[0]
            columns.append((batch["slices"][middle, self.neighbours], batch["label"][middle], predicted))
        save_masks(path, columns)

    def _validation_batches(self) -> list[dict[str, Tensor]]:
        held = self.held_out
        pairs = [
            (subject, frame)
            for subject in held.patients or held.phantoms
            for frame in (held.record(subject).ed, held.record(subject).es)
            if held.record(subject).labelled[frame]
        ]
        batches = [self._collate([self._slices(held.item(*pair))]) for pair in evenly_spaced(pairs, 24)]
        return [{name: tensor.to(self.device) for name, tensor in batch.items()} for batch in batches]
