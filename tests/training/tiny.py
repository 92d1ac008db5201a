"""Settings that train in seconds."""

from cinesynth.config import STAGES

STEPS = 4
SHORT = [
    *(f"training.{stage}.steps={STEPS}" for stage in STAGES),
    *(f"training.{stage}.validate_every_steps=2" for stage in STAGES),
    *(f"training.{stage}.checkpoint_every_steps=2" for stage in STAGES),
    "training.vae.losses={adversarial: 0.1, perceptual: 0.1, adversarial_start_step: 1}",
    "training.anatomy_diffusion.affine_copies=1",
]
TINY = [*SHORT, "grid.size=[48,48,12]", "grid.spacing_mm=[4,4,10]"]
