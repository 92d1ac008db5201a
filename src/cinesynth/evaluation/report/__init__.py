"""What an evaluation found, as a page for people and as JSON for programs."""

from cinesynth.evaluation.report.report import Report, Verdict, number, read_report

__all__ = ["Report", "Verdict", "number", "read_report"]
