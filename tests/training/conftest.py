"""What tests of training share: small settings; annotated shapes are checked."""

import pytest

from cinesynth.config import Config, load_config
from tests.shapes import annotated_shapes
from tests.training.tiny import TINY

__all__ = ["annotated_shapes", "tiny"]


@pytest.fixture(scope="session")
def tiny() -> Config:
    return load_config("smoke", TINY)
