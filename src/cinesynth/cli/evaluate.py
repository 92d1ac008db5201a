"""``cinesynth evaluate``, ``score``, ``study``, ``training-index`` and ``card``: judge generated cases and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Context, Option

from cinesynth.cli import console, progress
from cinesynth.cli.options import Dataset, MatchVolumes, MaxAttempts, Precision, Weights, Workers, refuse_without_effect

FAILED = 10
"""Exit code for a failed verdict or a regression; the exit codes of errors are lower."""


def evaluate(
    real: Annotated[Path, Option(help="Dataset folder of real subjects.")],
    synthetic: Annotated[
        Path, Option(help="Cohort folder, or a dataset whose held-out subjects serve as the reference cohort.")
    ],
    out: Annotated[Path, Option(help="Folder for index.html and report.json.")],
    weights: Annotated[
        Path | None, Option(help="Weights folder or name; adds metrics that use its autoencoder.")
    ] = None,
    segmenter: Annotated[Path | None, Option(help="Run folder of an independent segmenter.")] = None,
    i3d: Annotated[Path | None, Option(help="I3D weights file, for FVD.")] = None,
    split: Annotated[str, Option(help="Held-out subjects: test, or validation while choosing models.")] = "test",
    cache: Annotated[Path | None, Option(help="Folder for cached measurements. Default: inside --out.")] = None,
    workers: Workers = None,
    strict: Annotated[bool, Option("--strict", help=f"Exit with {FAILED} if any verdict is fail.")] = False,
) -> None:
    """Compare generated with real cases: one HTML page and one JSON file, with a verdict on every section.

    Run the same command again to reuse cached measurements.
    """
    from cinesynth.evaluation.evaluate import evaluate as run
    from cinesynth.evaluation.report import PAGE

    if weights is not None:
        progress.announce(weights, "cpu", "fp32")  # a codec is measured in full precision
    with progress.shown("reading the dataset and the cohort") as step:
        networks = {"weights": weights, "segmenter": segmenter, "i3d": i3d}
        report = run(real, synthetic, out, **networks, split=split, cache=cache, workers=workers, progress=step)
    for caution in report.metadata["cautions"]:
        console.err.print(f"caution: {caution}")
    rows = [(v.title, v.judgement or "not judged", v.decided_by) for v in report.verdicts]
    console.table("verdicts", ("section", "verdict", "decided by"), rows)
    console.out.print(f"{out / PAGE}: {report.judgement or 'nothing could be judged'}")
    if strict and report.judgement == "fail":
        raise typer.Exit(FAILED)


def score(
    context: Context,
    dataset: Dataset,
    weights: Weights = None,
    precision: Precision = "auto",
    split: Annotated[str, Option(help="Split whose subjects are scored: validation or test.")] = "validation",
    count: Annotated[int, Option(min=0, help="Number of cases to generate; 0 scores the autoencoder alone.")] = 50,
    frames: Annotated[
        int, Option(min=2, help="Frames per case; 2 means ED and ES only, which is faster but leaves motion unscored.")
    ] = 30,
    seed: Annotated[int, Option(min=0)] = 0,
    match_volumes: MatchVolumes = True,
    max_attempts: MaxAttempts = 3,
    workers: Workers = None,
    out: Annotated[Path | None, Option(help="JSON file to write, for `weights compare` and `weights record`.")] = None,
) -> None:
    """Score weights on held-out subjects: reconstruction, control accuracy, motion, near-duplicates and time per case.

    The generated cases are asked for the diagnoses and volumes of the held-out subjects.
    """
    from cinesynth.evaluation.score import score_bundle

    of_cases = ["frames", "seed", "match_volumes", "max_attempts"]
    refuse_without_effect(context, [] if count else of_cases, "with --count 0, which generates no case")
    settings: dict[str, Any] = {"match_volumes": match_volumes, "max_attempts": max_attempts, "frames": frames}
    settings["precision"] = precision
    folder = progress.announce(weights, "cpu", precision)
    with progress.shown("reading the weights and the dataset") as step:
        report = score_bundle(
            dataset, folder, split=split, count=count, seed=seed, workers=workers, progress=step, **settings
        )
    for table in report.tables():
        console.table(table.caption, table.columns, table.rows)
    if out is not None:
        report.write(out)


def study(
    context: Context,
    spec: Annotated[Path, Argument(help="YAML file that describes the study.")],
    out: Annotated[Path, Option(help="Study folder: generators, cohorts, segmenters, report.")],
    unit: Annotated[str | None, Option(help="Run this unit only.")] = None,
    list_: Annotated[bool, Option("--list", help="List the units and whether they are finished.")] = False,
    report: Annotated[bool, Option("--report", help="Only write the report of the finished units.")] = False,
    launcher: Annotated[
        Literal["local", "slurm"], Option(help="Run here, one unit after another, or submit one Slurm job per unit.")
    ] = "local",
    slurm: Annotated[
        list[str] | None,
        Option(metavar="KEY=VALUE", help="Option of the Slurm jobs, for example partition=gpu; can be repeated."),
    ] = None,
) -> None:
    """Train segmenters with and without generated cases, test them, and report whether the cases helped.

    For each number of labelled subjects a generator is trained on those subjects only. Run the same command again to
    continue. Other data, other generated cases or another version of the code start new runs.
    """
    refuse_without_effect(context, [] if launcher == "slurm" else ["slurm"], "without --launcher slurm")
    refuse_without_effect(context, ["list_", "report", "launcher"] if unit else [], "beside --unit, which runs it here")
    refuse_without_effect(context, ["report", "launcher"] if list_ else [], "beside --list")
    from cinesynth.study.report import write_report
    from cinesynth.study.run import StudyRun, parse_options, submit
    from cinesynth.study.spec import read_spec

    with progress.shown(f"study {spec.name}") as step:
        run = StudyRun(read_spec(spec), out, step)
        if unit is not None:
            run.unit(unit)
            return
        if list_:
            finished = run.finished()
            rows = [(each.name, "finished" if each.name in finished else "pending") for each in run.units()]
            console.table(str(out), ("unit", ""), rows)
            return
        if launcher == "slurm" and not report:
            jobs = submit(run, spec.resolve(), parse_options(slurm or []))
            console.table("jobs", ("unit", "job"), list(jobs.items()))
            console.out.print("when the jobs are done, run the same command with --report")
            return
        if not report:
            for number, each in enumerate(run.units()):
                step("units", number, len(run.units()), {})
                run.unit(each.name)
        page = write_report(run, f"cinesynth study {spec.name} --out {out.name}")
    console.out.print(f"{page}")


def training_index(
    dataset: Dataset,
    out: Annotated[Path, Option(help="File to write, about 20 kB per subject.")],
    weights: Weights = None,
) -> None:
    """Make an index of the training subjects for `generate --training-index`, which resamples near-duplicates.

    The index holds small blurred images of the subjects: protect it like the images themselves.
    """
    from cinesynth.config import parse_config
    from cinesynth.data.geometry import Grid
    from cinesynth.memorisation.duplicate_filter import TrainingIndex
    from cinesynth.weights.folder import stage_info
    from cinesynth.weights.registry import find_bundle

    grid = Grid.from_config(parse_config(stage_info(find_bundle(weights), "vae")["config"]).grid)
    with progress.shown("reading the dataset") as step:
        found = TrainingIndex.build(dataset, grid, progress=step)
    found.save(out)
    console.out.print(f"{out}: {len(found.names)} subjects; it shows patients, protect it like their images")


def card(
    report: Annotated[Path, Argument(help="report.json of `cinesynth evaluate`, or the folder that holds it.")],
    weights: Weights = None,
    out: Annotated[Path, Option(help="Markdown file to write.")] = Path("MODEL_CARD.md"),
) -> None:
    """Write a model card: what the weights are, what they were trained on, their intended use and their scores."""
    from cinesynth.evaluation.evaluate import write_card

    write_card(report, weights, out)
    console.out.print(f"{out}: model card of {weights or 'the default weights'}")
