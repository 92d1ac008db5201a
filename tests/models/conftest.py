"""What tests of networks share: annotated shapes are checked."""

from tests.shapes import annotated_shapes

__all__ = ["annotated_shapes"]
