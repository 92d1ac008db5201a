"""``cinesynth study``: do generated cases improve segmentation, also on unseen scanners?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cinesynth.cli import console

if TYPE_CHECKING:
    from cinesynth.study.run import StudyRun


def study(
    spec: Annotated[Path, typer.Argument(help="YAML file that describes the study.")],
    out: Annotated[Path, typer.Option(help="Study folder: generators, cohorts, segmenters, report.")],
    unit: Annotated[str | None, typer.Option(help="Run this unit only.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the units and whether they are finished.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Only write the report of the finished units.")] = False,
    launcher: Annotated[
        Literal["local", "slurm"],
        typer.Option(help="Run here, one unit after another, or submit one Slurm job per unit."),
    ] = "local",
    slurm: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of the Slurm jobs, for example partition=gpu; can be repeated."),
    ] = None,
) -> None:
    """Train segmenters with and without generated cases, test them, and report whether the cases helped.

    For each number of labelled subjects a generator is trained on those subjects only. Run the same command again to
    continue. Other data, other generated cases or another version of the code start new runs.
    """
    from cinesynth.study.report import write_report
    from cinesynth.study.run import StudyRun
    from cinesynth.study.spec import read_spec

    with console.progress() as step:
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
            _submit(run, spec, slurm or [])
            return
        if not report:
            for number, each in enumerate(run.units()):
                step("units", number, len(run.units()), {})
                run.unit(each.name)
        page = write_report(run, f"cinesynth study {spec.name} --out {out.name}")
    console.out.print(f"{page}")


def _submit(run: StudyRun, spec: Path, options: list[str]) -> None:
    from cinesynth.study.run import parse_options, submit

    jobs = submit(run, spec.resolve(), parse_options(options))
    console.table("jobs", ("unit", "job"), list(jobs.items()))
    console.out.print("when the jobs are done, run the same command with --report")
