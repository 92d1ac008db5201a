"""A server with tiny random weights, and who asks it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from cinesynth.web.app import make_app
from cinesynth.web.guard import ServeSettings

HERE = "http://127.0.0.1:7860"
QUICK: dict[str, Any] = {"diagnosis": "NOR", "frames": 2, "max_attempts": 1, "match_volumes": False, "slices": 6}
Client = Callable[[], TestClient]


@pytest.fixture(scope="module")
def served(weights: Path) -> Iterator[Client]:
    """Makes clients of one server, each a session of its own."""
    app = make_app(ServeSettings(weights=weights, upload_mib=8))
    with TestClient(app, base_url=HERE):
        yield lambda: TestClient(app, base_url=HERE)


@pytest.fixture
def client(served: Client) -> TestClient:
    return served()


def finished(client: TestClient, answer: Any) -> dict[str, Any]:
    """The job of an answer, when it is over."""
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    while job["state"] in ("waiting", "running"):
        job = client.get(f"/api/jobs/{job['id']}").json()
    return job
