"""How far a case is: the calls of its networks are counted, and each is a moment at which it can be cancelled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request

STEERING_CALLS = 24
"""Of the decoder, at ED and again at ES: between 10 and 30."""
Told = Callable[[float, str], None]


@contextmanager
def watched(pipe: CinePipeline, request: Request, told: Told) -> Iterator[None]:
    """While the body runs, ``told`` hears of every network call how much of the case is done and what is going on.

    What it raises is raised in the body. The share is a guess: draws may be refused and steering takes as long as it
    takes; it never goes back.
    """
    bundle = pipe.bundle
    steps = [request.steps or model.config.sampling_steps for model in (bundle.anatomy, bundle.dynamics)]
    steering = STEERING_CALLS if request.control else 2
    frames = request.frames / pipe.sampler.frames_per_call
    parts = {"anatomy": steps[0] + steering, "motion": steps[1] + steering, "frames": frames}
    total, counts = sum(parts.values()), {"anatomy": 0, "motion": 0}
    seen = {"part": "anatomy"}

    def call(part: str | None) -> None:
        if part is not None:
            seen["part"] = part
        counts[seen["part"]] += 1
        done = min(counts["anatomy"], parts["anatomy"])
        if seen["part"] == "motion":
            done = parts["anatomy"] + min(counts["motion"], parts["motion"] + frames)
        told(0.95 * done / total, seen["part"])

    networks: list[tuple[nn.Module, str | None]] = [(decoder, None) for decoder in bundle.codec.vae.decoders]
    networks += [(bundle.anatomy.network, "anatomy"), (bundle.dynamics.network, "motion")]
    handles = [net.register_forward_pre_hook(lambda _net, _args, part=part: call(part)) for net, part in networks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
