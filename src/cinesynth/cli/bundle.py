"""``cinesynth bundle`` and ``score``: a run into a weights folder, and what the weights are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cinesynth.cli import console

Weights = Annotated[
    Path | None,
    typer.Option(help="Weights folder or a name of `weights list`; by default what `weights use` chose, else compact."),
]


def bundle(
    run: Annotated[Path, typer.Argument(help="Run folder with the four stages finished.")],
    data: Annotated[Path, typer.Option(help="Dataset it was trained on: the empirical prior is fitted to it.")],
    out: Annotated[Path, typer.Option(help="Weights folder to write.")],
    half: Annotated[bool, typer.Option(help="Store fp16.")] = True,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Sampling steps or guidance, e.g. dynamics.diffusion.guidance=2."
        ),
    ] = None,
    fingerprints: Annotated[
        bool, typer.Option(help="Take fingerprints of the training subjects along: their near-copies are drawn again.")
    ] = True,
) -> None:
    """Write the weights folder of a finished run; parts that were not trained on each other are refused."""
    from cinesynth.data.terms import UNKNOWN
    from cinesynth.weights.build import bundle_run

    index = bundle_run(run, data, out, half=half, sampling=set_ or (), fingerprints=fingerprints)
    size = sum((out / name).stat().st_size for name in index["files"])
    console.table("terms of the data", ("dataset", "licence"), list(index["licences"].items()))
    console.out.print(f"{out}: {size / 2**20:.1f} MiB, licence {index['licence']}")
    if UNKNOWN in index["licence"]:
        console.out.print(
            f"hint: say licence and citation of these data in their layout, or under 'terms' in {data}/dataset.json, "
            "and bundle again",
            markup=False,
        )


def score(
    data: Annotated[Path, typer.Option(help="Dataset folder.")],
    weights: Weights = None,
    split: Annotated[str, typer.Option(help="validation or test.")] = "validation",
    count: Annotated[int, typer.Option(min=0, help="Cases to generate; 0 for the codec alone.")] = 50,
    frames: Annotated[
        int, typer.Option(min=2, help="Frames a case; 2 is ED and ES alone: faster, and nothing is said of motion.")
    ] = 30,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    control: Annotated[bool, typer.Option(help="Steer the masks to the requested volumes.")] = True,
    tries: Annotated[int, typer.Option(help="Draws allowed for an anatomy, and for its motion.")] = 3,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes for real hearts; all cores by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON to write, for `weights gate` and `weights record`.")] = None,
) -> None:
    """What the codec reconstructs of held-out patients; and of hearts generated for what they had: how they meet what
    was asked, how they move, whether they are near-copies of training subjects, and how long each takes."""
    from cinesynth.evaluation.score import score_bundle

    with console.progress() as step:
        report = score_bundle(
            data,
            weights,
            split=split,
            count=count,
            seed=seed,
            match_volumes=control,
            max_attempts=tries,
            frames=frames,
            workers=workers,
            progress=step,
        )
    for table in report.tables():
        console.table(table.caption, table.columns, table.rows)
    if out is not None:
        report.write(out)
