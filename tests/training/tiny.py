"""Settings that train in seconds."""

STEPS = 4
TINY = [
    *(f"training.{stage}.steps={STEPS}" for stage in ("vae", "motion", "anatomy", "dynamics")),
    *(f"training.{stage}.validate_every_steps=2" for stage in ("vae", "motion", "anatomy", "dynamics")),
    *(f"training.{stage}.checkpoint_every_steps=2" for stage in ("vae", "motion", "anatomy", "dynamics")),
    "training.vae.losses={adversarial: 0.1, perceptual: 0.1, adversarial_start_step: 1}",
    "training.anatomy.affine_copies=1",
]
