"""``cinesynth evaluate`` and ``card``: is it any good, and what to tell others about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cinesynth.cli import console
from cinesynth.cli.bundle import Weights

FAILED = 10
"""Exit code of ``--strict`` where a verdict is fail; those of errors are below it."""


def evaluate(
    real: Annotated[Path, typer.Option(help="Dataset folder of real people.")],
    synthetic: Annotated[
        Path, typer.Option(help="Cohort of `generate --count`; or a dataset, whose held-out people play the cohort.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for index.html and report.json.")],
    weights: Annotated[
        Path | None, typer.Option(help="Weights folder or name: adds measures that need its codec.")
    ] = None,
    segmenter: Annotated[Path | None, typer.Option(help="Weights of an independent segmenter.")] = None,
    i3d: Annotated[Path | None, typer.Option(help="I3D weights, for FVD.")] = None,
    split: Annotated[str, typer.Option(help="Held-out people: test, or validation while choosing models.")] = "test",
    cache: Annotated[Path | None, typer.Option(help="Folder for what was measured; by default in --out.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores by default.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help=f"Exit with {FAILED} if a verdict is fail.")] = False,
) -> None:
    """Compare generated hearts with real ones: one page and one JSON, with a verdict on every question.

    The same command again takes what was measured from the cache.
    """
    from cinesynth.evaluation.evaluate import evaluate as run
    from cinesynth.evaluation.report import PAGE

    with console.progress() as step:
        report = run(
            real,
            synthetic,
            out,
            weights=weights,
            segmenter=segmenter,
            i3d=i3d,
            split=split,
            cache=cache,
            workers=workers,
            progress=step,
        )
    for caution in report.metadata["cautions"]:
        console.err.print(f"caution: {caution}")
    rows = [(v.title, v.judgement or "not judged", v.decided_by) for v in report.verdicts]
    console.table("verdicts", ("section", "verdict", "decided by"), rows)
    console.out.print(f"{out / PAGE}: {report.judgement or 'nothing could be judged'}")
    if strict and report.judgement == "fail":
        raise typer.Exit(FAILED)


def known_hearts(
    data: Annotated[Path, typer.Option(help="Dataset that the weights were trained on.")],
    out: Annotated[Path, typer.Option(help="File to write: about 20 kB a subject.")],
    weights: Weights = None,
) -> None:
    """The training subjects, small and blurred, for `generate --known-hearts`. Treat the file as images of patients."""
    from cinesynth.config import parse_config
    from cinesynth.data.geometry import Grid
    from cinesynth.evaluation.training_index import known_hearts as known
    from cinesynth.weights.folder import find_bundle, stage_info

    grid = Grid.from_config(parse_config(stage_info(find_bundle(weights), "vae")["config"]).grid)
    with console.progress() as step:
        found = known(data, grid, progress=step)
    found.save(out)
    console.out.print(f"{out}: {len(found.names)} subjects; it shows patients, keep it as you keep their images")


def card(
    report: Annotated[Path, typer.Argument(help="report.json of `cinesynth evaluate`, or its folder.")],
    weights: Weights = None,
    out: Annotated[Path, typer.Option(help="Markdown file to write.")] = Path("MODEL_CARD.md"),
) -> None:
    """A model card: what the weights are, what they saw, what they are for, and what was measured."""
    from cinesynth.evaluation.card import write_card

    write_card(report, weights, out)
    console.out.print(f"{out}: the card of {weights or 'the default weights'}")
