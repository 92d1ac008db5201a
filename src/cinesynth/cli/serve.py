"""``cinesynth serve``: the web app."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from cinesynth.cli import console
from cinesynth.cli.options import Precision, Weights


def serve(
    weights: Weights = None,
    host: Annotated[str, Option(help="Address to listen on; any other than this machine needs a password.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, Option(help="Port to listen on; 0 takes a free one.")] = 7860,
    password_file: Annotated[
        Path | None, Option(help="File readable only by you, with the password on its first line.")
    ] = None,
    no_auth: Annotated[
        bool, Option("--no-auth", help="Allow access without a password to anyone who can reach --host.")
    ] = False,
    reports: Annotated[Path | None, Option(help="Folder of `cinesynth evaluate` reports to show.")] = None,
    upload_mib: Annotated[int, Option(min=1, help="Maximum upload size, MiB.")] = 512,
    store_mib: Annotated[int, Option(min=64, help="Maximum size of all results together, MiB.")] = 4096,
    precision: Precision = "auto",
) -> None:
    """Generate and view beating hearts in a browser. All data stay on this machine.

    Synthetic data, research use only, not for diagnosis.
    """
    from cinesynth.web.app import serve as run
    from cinesynth.web.guard import ServeSettings, read_password

    password = None if password_file is None else read_password(password_file)
    access = {"host": host, "port": port, "password": password, "no_auth": no_auth}
    limits = {"upload_mib": upload_mib, "store_mib": store_mib}
    settings = ServeSettings(weights=weights, reports=reports, precision=precision, **access, **limits)  # type: ignore[arg-type]
    if not settings.is_local:
        console.err.print("the connection is not encrypted: put the app behind a proxy with TLS", style="yellow")
    run(settings, lambda address: console.out.print(f"Running at {address} (press Ctrl-C to stop)", markup=False))
