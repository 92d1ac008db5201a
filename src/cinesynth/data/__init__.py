"""Studies as scanners make them, the dataset that keeps them, and the model's grid."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with what is done, how much there is in all, and the name of the last one."""
