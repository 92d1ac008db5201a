"""A question of the evaluation: what to measure on every heart, and how the answer is found in the numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cinesynth.evaluation.cases import CaseSet
from cinesynth.evaluation.measure import Measured, Measurer
from cinesynth.evaluation.section import Section


@dataclass(frozen=True)
class Evidence:
    """Hearts and their numbers. Patients of ``train`` and of ``held_out`` are other people."""

    synthetic: Measured
    train: Measured
    held_out: Measured
    synthetic_cases: CaseSet
    train_cases: CaseSet
    held_out_cases: CaseSet
    """The voxels, for pictures of a few hearts."""


@dataclass(frozen=True)
class Question:
    """Asked by one module of the evaluation, answered as one section of the report."""

    title: str
    measurers: Sequence[Measurer]
    answer: Callable[[Evidence], Section]
