"""Controllable 4D cardiac MRI: a beating heart and its segmentation from a diagnosis and two volumes.

Importing this package is quick, prints nothing and downloads nothing; the heavy libraries come with the first
use of `CinePipeline`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cinesynth.synthesis.pipeline import CinePipeline

__version__ = "0.1.0"
__all__ = ["CinePipeline", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "CinePipeline":
        return import_module("cinesynth.synthesis.pipeline").CinePipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
