"""Programs of others that judge what we write.

`make tools` brings them. Where one is absent its test skips and says so; where CINESYNTH_EXTERNAL_CHECKS is
``required``, as in CI, it fails.
"""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

NNUNET = Path(__file__).resolve().parents[1] / ".venv-nnunet" / "bin" / "python"


def nnunet_python() -> str:
    """An interpreter with nnU-Net: the one that NNUNET_PYTHON names, else that of `make nnunet`."""
    path = Path(os.environ.get("NNUNET_PYTHON", NNUNET))
    return str(path) if path.is_file() else _absent(f"nnU-Net is not here: no {path}; make nnunet brings it")


def beside_nnunet(program: str) -> str:
    """The path of a program that `make readers` puts beside that interpreter."""
    path = Path(nnunet_python()).with_name(program)
    return str(path) if path.is_file() else _absent(f"{program} is not here: no {path}; make readers brings it")


def dciodvfy() -> str:
    """The path of dciodvfy."""
    return shutil.which("dciodvfy") or _absent("dciodvfy is not on PATH; it is in Debian's dicom3tools")


def chromium() -> str:
    """The path of Chromium: that of CHROMIUM, else one on PATH."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    return found or _absent("Chromium is not here: make tools brings Debian's")


def _absent(reason: str) -> NoReturn:
    if os.environ.get("CINESYNTH_EXTERNAL_CHECKS") == "required":
        pytest.fail(reason)
    pytest.skip(reason)
