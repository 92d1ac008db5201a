"""The analytic beating heart: embedded example data whose every volume is known."""

from cinesynth.data.phantom.shape import rasterize_labels
from cinesynth.data.phantom.study import PHANTOM, PhantomStudy, phantom_study

__all__ = ["PHANTOM", "PhantomStudy", "phantom_study", "rasterize_labels"]
