"""Networks in bf16 give what they give in fp32, up to its 8 bits, and the record says which it was."""

import numpy as np
import pytest
import torch

from cinesynth.models.precision import resolve_precision
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.sampler import coarse_to_fine
from cinesynth.types import ClinicalPrior, Diagnosis, Label
from cinesynth.weights.registry import shipped_bundles


def test_the_hardware_decides_unless_a_precision_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for tiles, dot_products, expected in ((True, False, "bf16"), (False, True, "bf16"), (False, False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has=tiles: has, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=dot_products: has, raising=False)
        assert resolve_precision("auto", "cpu") == expected
    assert (resolve_precision("fp32", "cpu"), resolve_precision("bf16", "cpu")) == ("fp32", "bf16")


@pytest.mark.skipif("small" not in shipped_bundles(), reason="no weights are shipped in this checkout")
def test_both_precisions_make_the_same_heart() -> None:
    asked = ClinicalPrior(Diagnosis.NOR, 140.0, 60.0, 9)
    cines = {}
    for precision in ("fp32", "bf16"):
        pipe = CinePipeline.from_pretrained("small", device="cpu", precision=precision)  # type: ignore[arg-type]
        cines[precision] = pipe(asked, frames=2, seed=3, max_attempts=1, match_volumes=False)
        machine = cines[precision].provenance["machine"]
        assert machine["precision"] == precision  # type: ignore[index]
    fine, coarse = cines["fp32"], cines["bf16"]
    assert np.abs(fine.image - coarse.image).mean() < 0.01
    for structure in (Label.RV, Label.MYO, Label.LV):
        both = ((fine.label == structure) & (coarse.label == structure)).sum()
        assert 2 * both / ((fine.label == structure).sum() + (coarse.label == structure).sum()) > 0.97
        assert coarse.volumes_ml(structure) == pytest.approx(fine.volumes_ml(structure), rel=0.02)


@pytest.mark.parametrize(("es", "frames"), [(9, 30), (1, 2), (2, 3), (6, 20)])
def test_frames_are_decoded_from_es_in_finer_steps(es: int, frames: int) -> None:
    order = coarse_to_fine(es, frames)
    assert order[0] == es
    assert sorted(order) == list(range(1, frames))
