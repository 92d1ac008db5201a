"""``cinesynth serve``: the app in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cinesynth.cli import console
from cinesynth.cli.bundle import Weights


def serve(
    weights: Weights = None,
    host: Annotated[str, typer.Option(help="Address to listen at; others than this machine's need a password.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 7860,
    password_file: Annotated[
        Path | None, typer.Option(help="File that only you can read, with the password in its first line.")
    ] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Let everybody who reaches --host use it.")] = False,
    reports: Annotated[Path | None, typer.Option(help="Reports of `cinesynth evaluate` to show: a folder.")] = None,
    upload_mib: Annotated[int, typer.Option(min=1, help="Largest upload, MiB.")] = 512,
    store_mib: Annotated[int, typer.Option(min=64, help="Results of all sessions together, MiB.")] = 4096,
) -> None:
    """Generate hearts and look at them beating, in a browser on this machine. Nothing leaves it.

    Research use, synthetic data, not for diagnosis.
    """
    from cinesynth.web.app import serve as run
    from cinesynth.web.settings import ServeSettings, read_password

    password = None if password_file is None else read_password(password_file)
    settings = ServeSettings(
        host=host,
        port=port,
        weights=weights,
        password=password,
        no_auth=no_auth,
        reports=reports,
        upload_mib=upload_mib,
        store_mib=store_mib,
    )
    if not settings.is_local:
        console.err.print("what is sent and asked for is not encrypted: put it behind a proxy with TLS", style="yellow")
    run(settings, lambda address: console.out.print(f"open {address} (Ctrl-C ends it)", markup=False))
