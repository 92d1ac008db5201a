"""What a command does not need, it does not import: a user waits for every library."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOR_TRAINING = {"accelerate", "diffusers", "monai", "pandas", "skimage", "tensorboard", "torch._dynamo"}


def imported_by(code: str, *names: str) -> set[str]:
    """Those of ``names`` that a fresh process has imported after ``code``."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules, sep='\\n', file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return set(names) & set(done.stderr.splitlines())


def command(*words: str) -> str:
    """Code that runs the command line in its process."""
    return f"""
from cinesynth.cli import main
sys.argv = ["cinesynth", *{words!r}]
try: main()
except SystemExit as end: assert end.code in (0, None), end.code
"""


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["generate", "--help"], ["ingest", "acdc", "--help"]])
def test_help_needs_no_arrays_and_no_settings(words: list[str]) -> None:
    assert not imported_by(command(*words), "numpy", "jaxtyping", "yaml", "filelock", "scipy", "torch")


def test_the_list_of_verbs_needs_no_pydantic() -> None:  # typer reads options with it
    assert not imported_by(command("--help"), "pydantic")


def test_the_pipeline_brings_torch_alone() -> None:
    scipy = {"scipy.ndimage", "scipy.signal", "scipy.stats"}
    others = {"filelock", "h5py", "jinja2", "matplotlib", "nibabel", "PIL", *scipy}
    found = imported_by("from cinesynth import CinePipeline", "torch", *FOR_TRAINING, *others)
    assert found == {"torch"}


def test_a_case_needs_no_library_of_training_and_statistics(tmp_path: Path) -> None:
    words = ("generate", "--weights", "phantom", "--frames", "2", "--steps", "1", "--max-attempts", "1")
    made = command(*words, "--no-match-volumes", "--diagnosis", "NOR", "--out", str(tmp_path / "case"))
    found = imported_by(made, "scipy.ndimage", "nibabel", "scipy.signal", "scipy.stats", "h5py", *FOR_TRAINING)
    assert found == {"scipy.ndimage", "nibabel"}
    assert (tmp_path / "case" / "sheet.png").is_file()
