"""What tests of training share."""

import pytest

from cinesynth.config import Config, load_config
from tests.training.tiny import TINY


@pytest.fixture(scope="session")
def tiny() -> Config:
    return load_config("smoke", TINY)
