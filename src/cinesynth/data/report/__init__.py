"""A dataset as a page to look through: what is in it, what was left out, and what asks for a look."""

from cinesynth.data.report.page import Overview, write_report

__all__ = ["Overview", "write_report"]
