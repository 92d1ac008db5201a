"""ED and ES by the masks of a model: found where they are, refused where there is no heart, and never a label."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cinesynth.config.schema import GridConfig
from cinesynth.data.dataset_table import DatasetTable
from cinesynth.data.geometry import Grid, place
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import load_study
from cinesynth.data.sources import Source
from cinesynth.data.sources.acdc import read_acdc
from cinesynth.data.sources.cycle import assumed_phases
from cinesynth.data.sources.layout import load_layout
from cinesynth.data.sources.nifti import read_nifti
from cinesynth.data.sources.scd import read_scd
from cinesynth.errors import WeightsError
from cinesynth.models.codec import Codec
from cinesynth.models.vae import Decoded
from cinesynth.synthesis.annotate import PhaseFinder, segment
from cinesynth.types import Label, Study, volumes_ml
from cinesynth.weights.registry import shipped_bundles
from tests.data.conftest import build_study

shipped = pytest.mark.skipif("small" not in shipped_bundles(), reason="no weights are shipped in this checkout")


class Bright(nn.Module):
    """Takes what is as bright as the blood of drawn hearts for the LV: a codec whose masks are known."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = GridConfig(size=(96, 96, 12), spacing_mm=(2.0, 2.0, 10.0))

    labels, masks = Codec.labels, Codec.masks

    def encode(self, image: torch.Tensor, slice_mask: torch.Tensor) -> torch.Tensor:
        return image

    def decode(self, latent: torch.Tensor, slice_mask: torch.Tensor) -> Decoded:
        bright = (latent > 0.7).float()
        return Decoded(latent, torch.cat([1 - bright, 0 * bright, 0 * bright, bright], dim=1))


@pytest.fixture(name="finder")
def _finder() -> PhaseFinder:
    return PhaseFinder(Bright(), "0123456789abcdef")


def assumed(study: Study) -> Study:
    """``study`` as a source without labels and phases gives it."""
    bare = replace(study, label=np.zeros_like(study.label), coverage=np.zeros_like(study.coverage))
    return replace(bare, ed_index=0, es_index=1, phases_from="assumed", notes=("earlier",))


def drawn(start: int = 0, frames: int = 8) -> Study:
    """A drawn beating heart whose cycle begins ``start`` frames before ED; ES is four frames later."""
    study = build_study(frames=frames)
    return assumed(replace(study, image=np.roll(study.image, start, axis=0)))


@pytest.mark.parametrize("start", range(8))
def test_ed_and_es_are_found_wherever_the_cycle_begins(finder: PhaseFinder, start: int) -> None:
    found = finder(drawn(start))
    assert (found.ed_index, found.es_index, found.phases_from) == (start, (start + 4) % 8, "model")


def test_stored_frames_need_not_be_the_first(finder: PhaseFinder) -> None:
    """Indices are those of the cycle, not of what is stored."""
    study = replace(drawn(), frame_index=np.arange(8) + 3, frames_in_cycle=11, ed_index=3, es_index=4)
    found = finder(study)
    assert (found.ed_index, found.es_index) == (3, 7)


def test_masks_are_those_of_the_heart_and_lead_back_to_its_grid(finder: PhaseFinder) -> None:
    """Drawn on the step of the grid, so that nothing is lost on the way."""
    study = build_study(frames=8, spacing=(2.0, 2.0, 10.0))
    placement = place(assumed(study), Grid.from_config(finder.codec.grid))
    masks = segment(finder.codec, assumed(study), placement)
    truth = volumes_ml(study.label, Label.LV, study.voxel_ml)
    assert masks.shape == (8, 96, 96, 12)
    assert volumes_ml(masks, Label.LV, placement.grid.voxel_ml)[[0, 4]] == pytest.approx(truth[[0, 4]])
    native = placement.label_to_native(masks)
    assert np.array_equal(native[[0, 4]] == Label.LV, study.label[[0, 4]] == Label.LV)


def test_masks_of_a_model_are_never_labels(finder: PhaseFinder) -> None:
    study = drawn(3)
    found = finder(study)
    assert not found.coverage.any()
    assert not found.label.any()
    changed = {name for name, value in vars(study).items() if value is not getattr(found, name)}
    assert changed == {"ed_index", "es_index", "phases_from", "notes"}
    assert found.notes == ("earlier", "ED and ES by the masks of weights 0123456789ab")


@pytest.mark.parametrize("source", ["metadata", "labels", "model"])
def test_what_is_known_is_not_asked_again(finder: PhaseFinder, source: str) -> None:
    study = replace(drawn(3), phases_from=source)
    assert finder(study) is study


def test_no_heart_no_phases(finder: PhaseFinder) -> None:
    heart = drawn()
    tiny = np.full_like(heart.image, 40)
    tiny[:, 30:46, 30:46, 2] = 200  # 10.2 mL
    still = np.broadcast_to(heart.image[:1], heart.image.shape).copy()
    tall = np.concatenate([heart.image] * 3, axis=-1)
    cases = {
        "no heart was detected: the largest LV has 10 mL": replace(heart, image=tiny),
        "the detected LV hardly changes its volume": replace(heart, image=still),
        "does not fit the grid": replace(
            heart, image=tall, label=np.zeros(tall.shape, np.uint8), coverage=np.zeros((8, 18, 3), bool)
        ),
        "has no intensity scale": replace(heart, image=np.full_like(heart.image, 7)),
    }
    for reason, study in cases.items():
        found = finder(study)
        assert (found.ed_index, found.es_index, found.phases_from) == (0, 1, "assumed"), reason
        assert found.notes[0] == "earlier"
        assert found.notes[1].startswith("ED and ES stay assumed: ")
        assert reason in found.notes[1]
    assert finder(heart).phases_from == "model"


def test_weights_that_are_damaged_are_told_before_anything_is_read(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"bundle\.json is missing"):
        PhaseFinder.load(tmp_path)
    first = PhaseFinder.load(weights)
    assert first.version == PhaseFinder.load(weights).version
    assert replace(first, weights_sha256="other").version != first.version


FORKED = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from cinesynth.data.ingest import ingest
from cinesynth.data.sources import Source
from cinesynth.synthesis.annotate import PhaseFinder
from tests.synthesis.test_annotate import drawn

torch.set_num_threads(2)
torch.randn(4_000_000).exp().sum()  # the threads of this process are up when the workers fork
weights, out = map(Path, sys.argv[1:])
finder = PhaseFinder.load(weights)
names = ("a", "b")
for workers in (1, 2):
    source = Source(names, lambda name: replace(drawn(names.index(name)), subject=name))
    ingest(source.map(finder, finder.version), out / str(workers), workers=workers)
assert torch.get_num_threads() == 2
"""


def test_workers_that_are_forked_do_not_hang_and_change_nothing(weights: Path, tmp_path: Path) -> None:
    """A forked process that waits for the threads of its parent waits for ever."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", FORKED, str(weights), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    one, two = ((tmp_path / workers / "dataset.csv").read_bytes() for workers in ("1", "2"))
    assert one == two
    notes = [load_study(tmp_path / "2", row).notes for row in DatasetTable.read(tmp_path / "2")]
    assert [len(each) for each in notes] == [2, 2]  # all of them were looked at


# --- real data ----------------------------------------------------------------------------------------------------


def real_cycles(cine_data: Path) -> dict[str, list[Study]]:
    """Whole cycles whose ED and ES somebody knows: by the table, by contours, by Info.cfg."""
    return {
        "najman4d": list(read_nifti(cine_data / "najman4d", load_layout("najman4d"))),
        "scd": list(read_scd(cine_data / "scd")),
        "acdc": [read_acdc(cine_data / "acdc").read("patient090")],
    }


def frames_off(found: int, known: int, frames: int) -> int:
    """Frames from ``known`` to ``found`` the short way around the cycle."""
    return (found - known + frames // 2) % frames - frames // 2


@shipped
@pytest.mark.slow
def test_frames_off_of_real_cycles(cine_data: Path) -> None:
    """Prints the table of docs/decisions/0012: frames that the model, then the assumption, is off at ED and at ES."""
    finder = PhaseFinder.load()
    errors: dict[str, list[tuple[int, int]]] = {}
    for name, studies in real_cycles(cine_data).items():
        for known in studies:
            found = finder(assumed(known))
            assert found.phases_from == "model", (known.subject, found.notes)
            ed, es = (
                frames_off(getattr(found, index), getattr(known, index), known.frames_in_cycle)
                for index in ("ed_index", "es_index")
            )
            n = known.frames_in_cycle
            naive_ed, naive_es, _ = assumed_phases(n)
            off = frames_off(naive_ed, known.ed_index, n), frames_off(naive_es, known.es_index, n)
            print(f"| {name} {known.subject} | {n} | {ed:+d} | {es:+d} | {off[0]:+d} | {off[1]:+d} |")
            errors.setdefault(name, []).append((ed, es))
    for name, (ed_limit, es_limit) in {"najman4d": (3, 2), "scd": (3, 5), "acdc": (3, 2)}.items():
        ed, es = np.abs(np.array(errors[name])).T
        assert ed.max() <= ed_limit, (name, ed)
        assert es.max() <= es_limit, (name, es)
    ed, es = np.abs(np.concatenate([np.array(e) for e in errors.values()])).T
    assert np.median(ed) <= 1
    assert np.median(es) <= 1


@shipped
def test_real_cycles_go_in_with_their_phases_found(cine_data: Path, tmp_path: Path) -> None:
    """Two whole cycles stripped of all that is known, through the two workers of an ingestion."""
    cycles = read_nifti(cine_data / "najman4d", load_layout("najman4d"))
    studies = {name: cycles.read(name) for name in cycles.names[3:5]}
    finder = PhaseFinder.load()
    source = Source(tuple(studies), lambda name: assumed(studies[name])).map(finder, finder.version)
    for row in ingest(source, tmp_path / "data", workers=2).added:
        assert (row.phases_from, row.labels, row.lv_edv_ml) == ("model", "", None)
        assert abs(row.es_index - studies[row.subject].es_index) <= 2
        assert not load_study(tmp_path / "data", row).coverage.any()
