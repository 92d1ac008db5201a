"""``cinesynth bundle`` and ``score``: make a weights folder from a run, and score it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cinesynth.cli import console
from cinesynth.cli.options import Dataset, MatchVolumes, MaxAttempts, Weights, Workers


def bundle(
    run: Annotated[Path, typer.Argument(help="Run folder in which the four stages are finished.")],
    dataset: Annotated[Path, typer.Option(help="Dataset the run was trained on; the empirical prior is fitted to it.")],
    out: Annotated[Path, typer.Option(help="Weights folder to write.")],
    half: Annotated[bool, typer.Option(help="Store the weights as fp16.")] = True,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change sampling steps or guidance, for example motion_diffusion.diffusion.guidance=2.",
        ),
    ] = None,
    fingerprints: Annotated[
        bool,
        typer.Option(
            help="Include fingerprints of the training subjects, with which generation rejects near-duplicates."
        ),
    ] = True,
) -> None:
    """Make a weights folder from a finished run. Stages that were not trained on each other are refused."""
    from cinesynth.data.terms import UNKNOWN
    from cinesynth.weights.build import bundle_run

    index = bundle_run(run, dataset, out, half=half, sampling=set_ or (), fingerprints=fingerprints)
    size = sum((out / name).stat().st_size for name in index["files"])
    console.table("licences of the training data", ("dataset", "licence"), list(index["licences"].items()))
    console.out.print(f"{out}: {size / 2**20:.1f} MiB, licence {index['licence']}")
    if UNKNOWN in index["licence"]:
        console.out.print(
            "hint: state licence and citation of these data in their layout, or under 'terms' in "
            f"{dataset}/dataset.json, then run bundle again",
            markup=False,
        )


def score(
    dataset: Dataset,
    weights: Weights = None,
    split: Annotated[str, typer.Option(help="Split whose subjects are scored: validation or test.")] = "validation",
    count: Annotated[
        int, typer.Option(min=0, help="Number of cases to generate; 0 scores the autoencoder alone.")
    ] = 50,
    frames: Annotated[
        int,
        typer.Option(
            min=2, help="Frames per case; 2 means ED and ES only, which is faster but leaves motion unscored."
        ),
    ] = 30,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    match_volumes: MatchVolumes = True,
    max_attempts: MaxAttempts = 3,
    workers: Workers = None,
    out: Annotated[
        Path | None, typer.Option(help="JSON file to write, for `weights compare` and `weights record`.")
    ] = None,
) -> None:
    """Score weights on held-out subjects: reconstruction, control accuracy, motion, near-duplicates and time per case.

    The generated cases are asked for the diagnoses and volumes of the held-out subjects.
    """
    from cinesynth.evaluation.score import score_bundle

    with console.progress() as step:
        report = score_bundle(
            dataset,
            weights,
            split=split,
            count=count,
            seed=seed,
            match_volumes=match_volumes,
            max_attempts=max_attempts,
            frames=frames,
            workers=workers,
            progress=step,
        )
    for table in report.tables():
        console.table(table.caption, table.columns, table.rows)
    if out is not None:
        report.write(out)
