"""nnU-Net's own training command, with the length, seed and augmentation of a training run of a study.

Run it with the interpreter of nnU-Net's environment and the arguments of ``nnUNetv2_train``; this package never
imports it. The trainer has the name of nnU-Net's own, so that ``nnUNetv2_predict`` works without this file. It is
passed directly, because nnU-Net's search imports every trainer, and some need packages that a CPU installation lacks.
The seed fixes the initial weights and the draws of the main process; nnU-Net's worker processes seed themselves.
"""

import os

import numpy as np
import torch
from nnunetv2.run import run_training
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as Original

CUDA = torch.device("cuda")
AUGMENTS = os.environ.get("CINESYNTH_AUGMENT", "1") == "1"


class nnUNetTrainer(Original):
    """nnU-Net's default trainer, for a fixed number of epochs on all data."""

    def __init__(self, plans, configuration, fold, dataset_json, device=CUDA):
        seed = int(os.environ.get("CINESYNTH_SEED", "0"))
        torch.manual_seed(seed)
        np.random.seed(seed)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = int(os.environ.get("CINESYNTH_EPOCHS", "1000"))
        self.num_iterations_per_epoch = int(os.environ.get("CINESYNTH_ITERATIONS", "250"))
        self.num_val_iterations_per_epoch = 1  # it uses the training data, so its result is meaningless
        self.save_every = 1

    def perform_actual_validation(self, save_probabilities=False):
        """Skipped: all data are used for training."""


class PlainTrainer(nnUNetTrainer):
    """Trains without augmentation; nothing is mirrored, not even at test time."""

    @staticmethod
    def get_training_transforms(patch_size, rotation_for_DA, deep_supervision_scales, *others, **named):
        """The transforms of nnU-Net's validation."""
        kept = {k: named.get(k) for k in ("is_cascaded", "foreground_labels", "regions", "ignore_label")}
        return Original.get_validation_transforms(deep_supervision_scales, **kept)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):
        """No rotation, no mirroring, and patches of their final size."""
        rotation, dummy_2d, _, _ = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        self.inference_allowed_mirroring_axes = None
        return rotation, dummy_2d, self.configuration_manager.patch_size, None


PlainTrainer.__name__ = nnUNetTrainer.__name__

if __name__ == "__main__":
    run_training.recursive_find_trainer_class_by_name = lambda name: nnUNetTrainer if AUGMENTS else PlainTrainer
    run_training.run_training_entry()
