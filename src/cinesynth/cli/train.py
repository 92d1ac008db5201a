"""``cinesynth train``: one stage, or all four in order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from cinesynth.cli import console, progress
from cinesynth.errors import InputError

if TYPE_CHECKING:
    from cinesynth.config import Config

app = typer.Typer(
    no_args_is_help=True, help="Train the four stages or the segmenter. Run the same command again to resume."
)

Dataset = Annotated[Path | None, Option(help="Dataset folder, made by `cinesynth ingest`.")]
Run = Annotated[Path | None, Option(help="Run folder: checkpoints, metrics, previews, finished stages.")]
Preset = Annotated[str, Option(help="smoke, small, compact, base, paper, or a YAML file.")]
Set = Annotated[
    list[str] | None, Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. training.vae.steps=500.")
]
DryRun = Annotated[
    bool,
    Option(
        "--dry-run",
        help="Print the resolved settings with their parameters and FLOPs, check --dataset if it is given, then stop.",
    ),
]
Minutes = Annotated[
    float | None,
    Option(help="Stop at a checkpoint after this many minutes; the same command continues with the same result."),
]
Initial = Annotated[Path | None, Option(help="Weights folder or run of the same architecture to start training from.")]


def _verb(stage: str, text: str) -> None:
    def run(
        dataset: Dataset = None,
        run: Run = None,
        preset: Preset = "small",
        set_: Set = None,
        minutes: Minutes = None,
        initial: Initial = None,
        dry_run: DryRun = False,
    ) -> None:
        from cinesynth.config import dump_config, load_config

        config = load_config(preset, set_ or [])
        if dry_run:
            from cinesynth.models.build import count_costs, sequence_flops

            console.out.print(dump_config(config), markup=False)
            rows = [(c.part, f"{c.parameters / 1e6:.2f} M", f"{c.flops / 1e9:.1f}") for c in count_costs(config)]
            console.table(f"preset {config.preset}", ("part", "parameters", "GFLOPs per forward pass"), rows)
            console.out.print(f"one cine of 30 frames: {sequence_flops(config) / 1e12:.2f} TFLOP")
            if dataset is not None:
                from cinesynth.data.readiness import check_readiness

                check_dataset(dataset, config)
                check_readiness(dataset, stage)
            return
        if dataset is None or run is None:
            raise InputError(
                "training needs --dataset and --run", hint="give both, or use --dry-run, which needs neither"
            )
        if stage == "decoder" and initial is not None:
            hint = "the decoder stage starts from the VAE in --run"
            raise InputError("--initial does not apply to the decoder stage", hint=hint)
        from cinesynth.config import stages_of

        train(list(stages_of(config)) if stage == "all" else [stage], dataset, run, config, minutes, initial)

    run.__doc__ = text
    app.command(stage.replace("_", "-"))(run)


_verb("vae", "Stage 1: the semi-supervised VAE with an image and a mask decoder.")
_verb("residual_motion", "Stage 2: the deterministic residual-motion model.")
_verb("anatomy_diffusion", "Stage 3: the diffusion model from clinical priors to ED anatomy.")
_verb("motion_diffusion", "Stage 4: the diffusion model from ED anatomy and clinical priors to motion.")
_verb("decoder", "Fine-tune the decoder on noisy latents. If a run has this stage, bundle includes it.")
_verb("texture", "The network that adds texture to decoded images. If a run has this stage, bundle includes it.")
_verb("all", "All four stages in order, and the stages decoder and texture if the preset has them.")
_verb("segmenter", "The independent segmenter used by evaluate, trained on annotated frames of real subjects only.")


def check_dataset(dataset: Path, config: Config) -> None:
    """Print what `cinesynth doctor` finds on the grid of ``config``; `DataError` if training would refuse it."""
    from cinesynth.cli.dataset import conclude
    from cinesynth.data.doctor import examine
    from cinesynth.data.geometry import Grid

    with progress.shown("reading the dataset") as step:
        checkup = examine(dataset, Grid.from_config(config.grid), step)
    conclude(dataset, checkup)


def train(
    stages: list[str],
    dataset: Path,
    run: Path,
    config: Config,
    minutes: float | None = None,
    initial: Path | None = None,
) -> None:
    """Train ``stages`` with a progress display; print a summary of each, or what is left after ``minutes``."""
    from cinesynth.training.run import train_stage
    from cinesynth.training.stages import Deadline, TimeLimitReached

    progress.announce_training(stages, config, run)
    clock = Deadline(minutes)
    for number, stage in enumerate(stages):
        try:
            with progress.shown("reading the dataset") as step:
                info = train_stage(stage, dataset, run, config, step, clock, initial)
        except TimeLimitReached as stop:
            later = ", ".join(stages[number + 1 :])
            console.err.print(f"{stop}{f' (then {later})' if later else ''}")
            return
        seen = info["trained_on"]
        console.err.print(
            f"{stage}: trained on {seen['subjects']} ({seen['frames']} frames), weights {info['id'][:12]}"
        )
