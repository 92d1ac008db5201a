"""Two revisions of this repository side by side: temporary worktrees, and an environment in which each one runs."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def git(*arguments: str) -> str:
    repository = Path(__file__).resolve().parent
    return subprocess.run(["git", *arguments], cwd=repository, check=True, text=True, stdout=subprocess.PIPE).stdout


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """A temporary checkout of ``commit``, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="revision-") as folder:
        tree = Path(folder) / "tree"
        git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))


def environment(tree: Path, threads: int | None = 1) -> dict[str, str]:
    """Variables with which ``python -m cinesynth`` runs the code of ``tree`` with no user's settings.

    On so many threads; by default on one, so that results do not depend on the machine. None leaves the number alone.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CINESYNTH_")}
    settings = {"PYTHONPATH": str(tree / "src"), "XDG_CONFIG_HOME": str(tree / "settings"), "CUDA_VISIBLE_DEVICES": ""}
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS") if threads else ()
    return kept | dict.fromkeys(names, str(threads)) | settings


def check_import(tree: Path) -> None:
    """`SystemExit` unless this interpreter imports the package of ``tree``."""
    command = [sys.executable, "-c", "import cinesynth; print(cinesynth.__file__)"]
    found = subprocess.run(command, env=environment(tree), cwd=tree, check=True, text=True, stdout=subprocess.PIPE)
    if not Path(found.stdout.strip()).resolve().is_relative_to(tree.resolve()):
        raise SystemExit(f"{sys.executable} imports {found.stdout.strip()}, not the checkout in {tree}")


def child_cpu_s() -> float:
    """CPU time of all commands so far: on a busy machine it says more than the clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
