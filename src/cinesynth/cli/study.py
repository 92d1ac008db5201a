"""``cinesynth study``: do generated hearts help segmentation, at home and on scanners that nobody learned from?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cinesynth.cli import console

if TYPE_CHECKING:
    from cinesynth.study.run import StudyRun


def study(
    spec: Annotated[Path, typer.Argument(help="YAML of the study (docs/study.md).")],
    out: Annotated[Path, typer.Option(help="Folder of the study: generators, hearts, segmenters, report.")],
    unit: Annotated[str | None, typer.Option(help="Do this one unit and stop.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Print the units and whether they are finished.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Only write the report of what is finished.")] = False,
    launcher: Annotated[
        Literal["local", "slurm"], typer.Option(help="Here, one unit after another; or a Slurm job each.")
    ] = "local",
    slurm: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the Slurm jobs, e.g. partition=gpu.")
    ] = None,
) -> None:
    """Train segmenters with and without generated hearts, test them, and say whether the hearts helped.

    For each number of labelled people a generator is trained on them alone. The same command goes on where it was
    stopped; other data, other hearts or other code make new cells.
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
            rows = [(each.name, "finished" if each.name in finished else "open") for each in run.units()]
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
    console.out.print("when they are done: the same command with --report")
