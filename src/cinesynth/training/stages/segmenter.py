"""The independent segmenter of the evaluation: MONAI's 2D U-Net, trained on annotated frames of patients alone.

It shares nothing with the codec: another network, another loss, no generated images and, if there are patients, no
phantoms. If it segments a generated image as the generated mask does, then image and mask agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.layers import Norm
from monai.networks.nets.basic_unet import BasicUNet, UpCat
from torch import Tensor, nn

from cinesynth.config import Config
from cinesynth.config.schema import SegmenterConfig
from cinesynth.data.packed import PackedDataset
from cinesynth.errors import DataError
from cinesynth.training.frames import Batch, FrameSampler, Prefetch
from cinesynth.training.losses import dice_ce, dice_scores
from cinesynth.training.preview import save_masks
from cinesynth.training.stages import Loss, evenly_spaced
from cinesynth.types import Label

OUTSIDE = -1.0
"""Intensity beyond base, apex and border: black, as on slices that were not acquired."""


class SliceNorm(nn.InstanceNorm2d):
    """Instance norm that trains on CPUs in channels-last memory, as convolutions do: as a batch norm of each slice."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``N C X Y``."""
        if not self.training or input.device.type != "cpu":
            return super().forward(input)
        each = (F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps) for x in torch.split(input, 1))
        return torch.cat(list(each))


@Norm.factory_function("slice")  # type: ignore[untyped-decorator]
def _slice_norm(dimensions: int) -> type[SliceNorm]:
    return SliceNorm


class SliceUNet(nn.Module):
    """Logits of each slice from the slice and its neighbours; outside the stack everything is black."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.neighbours = config.neighbours
        self.network = BasicUNet(
            spatial_dims=2,
            in_channels=1 + 2 * config.neighbours,
            out_channels=len(Label),
            features=(*config.channels, config.channels[0]),
            norm=("slice", {"affine": True}),
        )
        for module in self.network.modules():
            if isinstance(module, UpCat):
                module.is_pad = False  # planes are padded to a multiple of 16: copies of nothing

    def forward(self, slices: Tensor) -> Tensor:
        """``N 1+2K X Y`` of `with_neighbours` to ``N 4 X Y`` logits."""
        x, y = slices.shape[-2:]
        padded = F.pad(slices, (0, -y % 16, 0, -x % 16), value=OUTSIDE)  # the plane is halved four times
        logits: Tensor = self.network(padded.contiguous(memory_format=torch.channels_last))
        return logits[..., :x, :y]


def with_neighbours(volume: Tensor, neighbours: int) -> Tensor:
    """Each slice of ``X Y Z`` with those on either side: ``Z 1+2K X Y``."""
    planes = F.pad(volume, (neighbours, neighbours), value=OUTSIDE).permute(2, 0, 1)  # Z+2K X Y
    return planes.unfold(0, 1 + 2 * neighbours, 1).permute(0, 3, 1, 2)  # Z X Y 1+2K, then Z 1+2K X Y


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
                hint="ingest more subjects with labels, or edit the column split of dataset.csv",
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
        items = [self._view(step, case) for case in cases]
        return {key: torch.cat([item[key] for item in items]) for key in items[0]}

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

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Mean Dice of each structure over annotated ED and ES frames of validation subjects, whole and unaugmented."""
        found: dict[str, list[float]] = {}
        for batch in self._validation_batches():
            slices = (model(batch["slices"]).max(dim=1).indices, batch["label"].long())
            predicted, truth = (each.movedim(0, -1)[None] for each in slices)  # Z X Y, then 1 X Y Z
            for name, value in dice_scores(predicted, truth, batch["coverage"][None]).items():
                found.setdefault(name, []).append(value)
        mean = {name: float(np.mean(values)) for name, values in found.items()}
        return {**mean, "score": 1.0 - float(np.mean(list(mean.values())))}

    def preview(self, model: nn.Module, path: Path) -> None:
        """Middle slices of validation subjects with their annotation and their segmentation."""
        columns = []
        for batch in self._validation_batches()[:4]:
            middle = len(batch["slices"]) // 2
            predicted = model(batch["slices"][middle : middle + 1]).max(dim=1).indices[0]
            columns.append((batch["slices"][middle, self.neighbours], batch["label"][middle], predicted))
        save_masks(path, columns)

    def _validation_batches(self) -> list[dict[str, Tensor]]:
        held = self.held_out
        records = [(subject, held.record(subject)) for subject in held.patients or held.phantoms]
        pairs = [(subject, frame) for subject, r in records for frame in (r.ed, r.es) if r.labelled[frame]]
        items = [self._slices(held.item(*pair)) for pair in evenly_spaced(pairs, 24)]
        return [{name: tensor.to(self.device) for name, tensor in item.items()} for item in items]
