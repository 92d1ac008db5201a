"""``cinesynth train``: one stage, or all four."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cinesynth.cli import console
from cinesynth.config import Config, dump_config, load_config
from cinesynth.errors import InputError

app = typer.Typer(
    no_args_is_help=True, help="Train the four stages, or the segmenter; the same command resumes an interrupted run."
)

Data = Annotated[Path | None, typer.Option(help="Dataset folder, made by cinesynth ingest.")]
Run = Annotated[Path | None, typer.Option(help="Run folder: checkpoints, metrics, previews, finished stages.")]
Preset = Annotated[str, typer.Option(help="smoke, small, compact, base, paper, or a YAML file.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. training.vae.steps=500."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved settings and what they cost, and stop.")]

Minutes = Annotated[
    float | None,
    typer.Option(help="Stop after so many minutes, at a checkpoint; the same command goes on, with the same result."),
]


Initial = Annotated[
    Path | None, typer.Option(help="Weights folder or run of the same shape, whose networks training starts from.")
]


def _verb(stage: str, text: str, old: str | None = None) -> None:
    """Add the verb of a stage, and under its ``old`` name one that is hidden and says what it is called now."""
    verb = stage.replace("_", "-")

    def run(
        context: typer.Context,
        data: Data = None,
        run: Run = None,
        preset: Preset = "small",
        set_: Set = None,
        minutes: Minutes = None,
        initial: Initial = None,
        dry_run: DryRun = False,
    ) -> None:
        if context.info_name == old:
            console.err.print(f"note: `train {old}` is now `train {verb}`; the old name will be removed", markup=False)
        config = load_config(preset, set_ or [])
        if dry_run:
            print_plan(config)
            return
        if data is None or run is None:
            raise InputError("--data and --run are needed to train", hint="only --dry-run goes without them")
        if stage == "decoder" and initial is not None:
            raise InputError("--initial is not for the decoder", hint="it starts from the VAE of its own --run")
        train(_stages(config) if stage == "all" else [stage], data, run, config, minutes, initial)

    run.__doc__ = text
    app.command(verb)(run)
    if old is not None:
        app.command(old, hidden=True)(run)


_verb("vae", "Stage 1: the semi-supervised VAE with an image and a mask decoder.")
_verb("residual_motion", "Stage 2: the deterministic residual-motion model.", old="motion")
_verb("anatomy_diffusion", "Stage 3: the diffusion model from clinical priors to the ED anatomy.", old="anatomy")
_verb("motion_diffusion", "Stage 4: the diffusion model from anatomy and priors to motion.", old="dynamics")
_verb("decoder", "The decoder once more, on noisy latents; where a run has one, it goes into the bundle.")
_verb("all", "The four stages in order, and the decoder once more where the preset says so.")
_verb("segmenter", "The independent segmenter of the evaluation, from annotated frames of patients alone.")


def _stages(config: Config) -> list[str]:
    from cinesynth.training.run import stages_of

    return list(stages_of(config))


def train(
    stages: list[str],
    data: Path,
    run: Path,
    config: Config,
    minutes: float | None = None,
    initial: Path | None = None,
) -> None:
    """Train stages with a progress display and print what each reached, or after ``minutes`` what is left."""
    from cinesynth.training.run import train_stage
    from cinesynth.training.stages import Deadline, TimeLimitReached

    clock = Deadline(minutes)
    for number, stage in enumerate(stages):
        try:
            with console.progress() as step:
                info = train_stage(stage, data, run, config, step, clock, initial)
        except TimeLimitReached as stop:
            later = ", ".join(stages[number + 1 :])
            console.err.print(f"{stop}{f' (then {later})' if later else ''}")
            return
        seen = info["trained_on"]
        console.err.print(
            f"{stage}: trained on {seen['subjects']} ({seen['frames']} frames), weights {info['id'][:12]}"
        )


def print_plan(config: Config) -> None:
    """The resolved tree, and parameters and FLOPs of each part."""
    from cinesynth.models.build import count_costs, sequence_flops

    console.out.print(dump_config(config), markup=False)
    rows = [(c.part, f"{c.parameters / 1e6:.2f} M", f"{c.flops / 1e9:.1f}") for c in count_costs(config)]
    console.table(f"preset {config.preset}", ("part", "parameters", "GFLOP a forward"), rows)
    console.out.print(f"one cine of 30 frames: {sequence_flops(config) / 1e12:.2f} TFLOP")
