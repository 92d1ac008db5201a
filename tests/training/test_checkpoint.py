"""Shards are small, come back bit for bit, and are never half of two checkpoints."""

from pathlib import Path

import pytest
import torch

from cinesynth.errors import OutputError, WeightsError
from cinesynth.training.checkpoint import INDEX, load_checkpoint, read_shards, save_checkpoint, write_shards
from tests.limits import files_below

TENSORS = {
    "large": torch.arange(5000, dtype=torch.float32).reshape(50, 4, 25),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "none": torch.zeros(0, 4),
}


def test_tensors_come_back_bit_for_bit_from_small_files(tmp_path: Path) -> None:
    write_shards(tmp_path, "a", TENSORS, {"step": 3}, limit_bytes=4096)
    found = read_shards(tmp_path)
    assert found is not None
    tensors, info = found
    assert info["step"] == 3
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    sizes = [path.stat().st_size for path in tmp_path.glob("*.safetensors")]
    assert len(sizes) == 5
    assert max(sizes) < 4096 + 512


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert read_shards(tmp_path / "absent") is None


def test_a_missing_or_damaged_shard_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path, "a", TENSORS, {}, limit_bytes=4096)
    path = tmp_path / "a-0002.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match=r"a-0002\.safetensors is damaged"):
        read_shards(tmp_path)
    path.unlink()
    with pytest.raises(WeightsError, match=r"a-0002\.safetensors is missing"):
        read_shards(tmp_path)


def test_a_write_that_fails_leaves_the_former_tensors(tmp_path: Path) -> None:
    write_shards(tmp_path, "a", TENSORS, {"step": 1})
    with files_below(8192), pytest.raises(OutputError):
        write_shards(tmp_path, "b", TENSORS, {"step": 2})
    found = read_shards(tmp_path)
    assert found is not None
    assert found[1]["step"] == 1
    write_shards(tmp_path, "c", TENSORS, {"step": 3})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c-0000.safetensors", INDEX]


def test_an_optimiser_goes_on_in_the_layout_of_its_weights(tmp_path: Path) -> None:
    def started() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        layer = torch.nn.Conv2d(3, 5, 3)
        layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
        return layer, torch.optim.AdamW(layer.parameters(), fused=True)

    def step(layer: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        layer(torch.arange(48.0).reshape(1, 3, 4, 4)).square().sum().backward()
        optimizer.step()

    layer, optimizer = started()
    step(layer, optimizer)
    save_checkpoint(tmp_path, 1, {"model": layer}, {"model": optimizer}, {})
    again, resumed = started()
    load_checkpoint(tmp_path, {"model": again}, {"model": resumed})
    layer.zero_grad()
    for each in ((layer, optimizer), (again, resumed)):
        step(*each)
    assert torch.equal(again.state_dict()["weight"], layer.state_dict()["weight"])
