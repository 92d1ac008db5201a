"""The trainer of a study's cells, found and run by nnU-Net (``nnUNet_extTrainer``), never imported by this package.

Length, seed and augmentation are those of the environment. The seed fixes the first weights and what the main process
draws; nnU-Net's worker processes draw for themselves.
"""

import os

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

CUDA = torch.device("cuda")


class CinesynthStudyTrainer(nnUNetTrainer):
    """nnU-Net's own, for a fixed number of epochs, on everybody."""

    def __init__(self, plans, configuration, fold, dataset_json, device=CUDA):
        super().__init__(plans, configuration, fold, dataset_json, device)
        seed = int(os.environ.get("CINESYNTH_SEED", "0"))
        torch.manual_seed(seed)
        np.random.seed(seed)
        self.num_epochs = int(os.environ.get("CINESYNTH_EPOCHS", "1000"))
        self.num_iterations_per_epoch = int(os.environ.get("CINESYNTH_ITERATIONS", "250"))
        self.num_val_iterations_per_epoch = 1  # on the training people themselves: it says nothing
        self.save_every = 1

    def get_training_transforms(self, *arguments, **named):
        """nnU-Net's augmentation, or none."""
        if _augments():
            return nnUNetTrainer.get_training_transforms(*arguments, **named)
        names = ("patch_size", "rotation_for_DA", "deep_supervision_scales", "mirror_axes", "do_dummy_2d_data_aug")
        given = {**dict(zip(names, arguments, strict=False)), **named}
        scales = given["deep_supervision_scales"]
        kept = {k: given.get(k) for k in ("is_cascaded", "foreground_labels", "regions", "ignore_label")}
        return nnUNetTrainer.get_validation_transforms(scales, **kept)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):
        """Without augmentation nothing is mirrored either, nor at the test."""
        found = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if _augments():
            return found
        self.inference_allowed_mirroring_axes = None
        return (*found[:2], self.configuration_manager.patch_size, None)

    def perform_actual_validation(self, save_probabilities=False):
        """Nobody is left to validate on."""


def _augments():
    return os.environ.get("CINESYNTH_AUGMENT", "1") == "1"
