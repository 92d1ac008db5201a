"""What a case costs other models that generate 4D cardiac MRI, beside one of ours, on one machine and in one run.

    python benchmarks/peers.py --json peers.json
    python benchmarks/peers.py --only ours paper --precision bf16

Builds the networks of two published models with random weights at the sizes of their released code, times a few calls
of each and multiplies by the calls of a case. Nothing of their code is used: MONAI and diffusers hold the networks.

paper     Anatomy-Guided Residual Motion Diffusion (arXiv 2606.26764), github.com/cyiheng/4DCardiacMRISynthesis at
          f1684f7: 30 frames of 192 x 192 x 16; 30 DDIM steps for the anatomy and for each of 29 frames, each a batch of
          two for guidance; an image and a mask decoded a frame. Its anatomy is taken to pass its check at once.
cardiodit CardioDiT (arXiv 2603.25194), github.com/Cardio-AI/cardiodit at abf3c97: 32 frames of 256 x 256 x 6, without
          conditions or masks; 300 DDIM steps of DiT-B; six slices decoded. Its blocks are MONAI's transformer blocks:
          the same matrix products over the same 6,144 tokens, without the modulation by the time.

Ours is a whole process: ``cinesynth generate`` of 30 frames and 10 slices, with volume matching, all files written.
Theirs are network calls alone: no start, no solver, no file. The released code computes in fp32; ``--precision bf16``
runs it under autocast. ``--plane-share 0.25`` computes a quarter of the plane where memory is short, and scales the
time by the counted FLOPs. Nothing else may run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from diffusers import UNet3DConditionModel
from monai.networks.blocks.transformerblock import TransformerBlock
from monai.networks.nets import VQVAE, DiffusionModelUNet
from monai.networks.nets.autoencoderkl import AEKLResBlock
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

TARGET = 700.0
"""Times that our case is faster than the paper's, at least."""
CASE = "-m cinesynth generate --diagnosis NOR --edv 130 --ef 62 --slices 10 --frames 30 --seed 5 --overwrite --out"
STEPS, FRAMES, GUIDED = 30, 30, 2
LATENT, CONTEXT = (24, 24, 16), 512


@dataclass(frozen=True)
class Network:
    """``calls`` calls of ``build()`` on ``inputs(share)``, of which ``share`` is the part of each side of the plane."""

    model: str
    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[float], tuple[Tensor, ...]]
    calls: int


@dataclass(frozen=True)
class Row:
    """What calls of one network took."""

    model: str
    network: str
    parameters: int
    gflops: float
    """Of a call."""
    seconds: list[float]
    """Of each timed call, at full size."""
    calls: int

    @property
    def hours(self) -> float:
        return median(self.seconds) * self.calls / 3600.0


# --- The paper -------------------------------------------------------------------------------------------------------


class AnatomyUNet(nn.Module):
    def __init__(self, channels: Sequence[int] = (256, 512, 1024)) -> None:
        super().__init__()
        attention = (False, *(True for _ in channels[1:]))
        size = {"channels": channels, "attention_levels": attention, "num_res_blocks": 2, "num_head_channels": 32}
        self.net = DiffusionModelUNet(3, 9, 8, **size, with_conditioning=True, cross_attention_dim=CONTEXT)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        return self.net(x, timesteps=time, context=context)


class MotionUNet(nn.Module):
    """It takes the first axis of the plane for time, as the released code does."""

    def __init__(self, channels: Sequence[int] = (256, 512, 768, 768)) -> None:
        super().__init__()
        down = ("CrossAttnDownBlock3D",) * 3 + ("DownBlock3D",)
        up = ("UpBlock3D",) + ("CrossAttnUpBlock3D",) * 3
        size = {"block_out_channels": tuple(channels), "layers_per_block": 2, "attention_head_dim": 64}
        blocks = {"down_block_types": down, "up_block_types": up, "cross_attention_dim": CONTEXT}
        self.net = UNet3DConditionModel(in_channels=17, out_channels=8, **size, **blocks)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        return self.net(x, time, encoder_hidden_states=context).sample


def paper_decoder(out_channels: int, channels: Sequence[int] = (128, 64, 32)) -> nn.Sequential:
    """From latents to the plane in three steps of 2 x 2 x 1, two residual blocks after each."""

    def conv(before: int, after: int) -> nn.Conv3d:
        return nn.Conv3d(before, after, 3, padding=1, padding_mode="replicate")

    layers: list[nn.Module] = [conv(8, channels[0])]
    for before, after in zip((channels[0], *channels), channels, strict=False):
        layers += [nn.Upsample(scale_factor=(2, 2, 1), mode="trilinear"), conv(before, before)]
        layers += [AEKLResBlock(3, c, 32, 1e-6, after) for c in (before, after)]
    return nn.Sequential(*layers, nn.GroupNorm(32, channels[-1], 1e-6), conv(channels[-1], out_channels))


def latents(channels: int, batch: int, tokens: int, share: float) -> tuple[Tensor, ...]:
    """Input of a U-Net of the paper; without ``tokens`` of context, that of a decoder."""
    x, y, z = LATENT
    latent = torch.randn(batch, channels, round(share * x), round(share * y), z)
    return (latent, torch.full((batch,), 500), torch.randn(batch, tokens, CONTEXT)) if tokens else (latent,)


PAPER = (
    Network("paper", "anatomy U-Net", AnatomyUNet, lambda s: latents(9, GUIDED, 1, s), STEPS),
    Network("paper", "motion U-Net", MotionUNet, lambda s: latents(17, GUIDED, 2, s), STEPS * (FRAMES - 1)),
    Network("paper", "image decoder", lambda: paper_decoder(1), lambda s: latents(8, 1, 0, s), FRAMES),
    Network("paper", "mask decoder", lambda: paper_decoder(4), lambda s: latents(8, 1, 0, s), FRAMES),
)


# --- CardioDiT -------------------------------------------------------------------------------------------------------


class DiT(nn.Module):
    """Patches of 1 x 4 x 4 x 2 voxels of ``B C Z H W T`` latents become tokens of ``width``."""

    def __init__(self, width: int = 768, depth: int = 12, heads: int = 12) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(8 * 32, width), nn.Linear(width, 8 * 32)
        blocks = (
            TransformerBlock(width, 4 * width, heads, qkv_bias=True, use_flash_attention=True) for _ in range(depth)
        )
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        b, c, z, h, w, t = x.shape
        patches = x.reshape(b, c, z, h // 4, 4, w // 4, 4, t // 2, 2).permute(0, 2, 3, 5, 7, 1, 4, 6, 8)
        return self.out(self.blocks(self.embed(patches.reshape(b, -1, c * 32))))  # B N C*32


class SliceDecoder(nn.Module):
    def __init__(self, channels: Sequence[int] = (128, 256), residual: Sequence[int] = (256, 256)) -> None:
        super().__init__()
        down, up = ((2, 4, 1, 1),) * len(channels), ((2, 4, 1, 1, 0),) * len(channels)
        sizes = {"channels": channels, "num_res_channels": residual, "num_res_layers": 2}
        codebook = {"num_embeddings": 16384, "embedding_dim": 8}
        whole = VQVAE(3, 1, 1, downsample_parameters=down, upsample_parameters=up, **sizes, **codebook)
        self.net = whole.decoder

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


CARDIODIT = (
    Network("cardiodit", "DiT-B", DiT, lambda s: (torch.randn(1, 8, 6, round(64 * s), round(64 * s), 8),), 300),
    Network(
        "cardiodit", "slice decoder", SliceDecoder, lambda s: (torch.randn(1, 8, round(64 * s), round(64 * s), 8),), 6
    ),
)


# --- Timing ----------------------------------------------------------------------------------------------------------


def counted_flops(network: Network, share: float = 1.0) -> int:
    """FLOPs of a call, counted without computing it."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.build().eval()(*network.inputs(share))
    return int(counter.get_total_flops())


def with_random_weights(network: Network) -> nn.Module:
    """The network; a constructor's own initialisation of a billion numbers would take longer than a call."""
    with torch.device("meta"):
        module = network.build()
    module.to_empty(device="cpu")
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -0.02, 0.02) if parameter.dim() > 1 else nn.init.ones_(parameter)
    return module.eval()


@torch.inference_mode()
def timed(network: Network, repeats: int, share: float = 1.0, precision: str = "fp32") -> Row:
    """Time ``repeats`` calls after one that is not counted."""
    flops = counted_flops(network)
    scale = flops / counted_flops(network, share)
    module, inputs, seconds = with_random_weights(network), network.inputs(share), []
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        for _ in range(repeats + 1):
            begun = time.perf_counter()
            module(*inputs)
            seconds.append(scale * (time.perf_counter() - begun))
    parameters = sum(p.numel() for p in module.parameters())
    return Row(network.model, network.name, parameters, flops / 1e9, seconds[1:], network.calls)


def our_case(repeats: int, command: str = CASE) -> list[float]:
    """Seconds of whole processes that generate one case, after one that is not counted."""
    seconds = []
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        for _ in range(repeats + 1):
            begun = time.perf_counter()
            subprocess.run([sys.executable, *shlex.split(command), folder + "/case"], check=True, capture_output=True)
            seconds.append(time.perf_counter() - begun)
    return seconds[1:]


def told(row: Row) -> str:
    """The row in Markdown."""
    range_s = f"{median(row.seconds):.2f} ({min(row.seconds):.2f}-{max(row.seconds):.2f})"
    cells = (f"{row.parameters / 1e6:.1f}", f"{row.gflops:.0f}", range_s, str(row.calls), f"{row.hours:.3f}")
    return f"| {row.model} | {row.network} | {' | '.join(cells)} |"


def totals(rows: Sequence[Row], ours: Sequence[float]) -> dict[str, dict[str, float]]:
    """Seconds of a case of each model whose networks were all timed, and how many times as long as ours it takes.

    Not a number without ours.
    """
    found, timed_names = {}, {row.network for row in rows}
    for model, networks in (("paper", PAPER), ("cardiodit", CARDIODIT)):
        if timed_names >= {network.name for network in networks}:
            case_s = 3600.0 * sum(row.hours for row in rows if row.model == model)
            found[model] = {"case_s": case_s, "times_ours": case_s / median(ours) if ours else math.nan}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="starts of the names of what to time")
    parser.add_argument("--repeats", type=int, default=3, help="timed calls of each network, and processes of ours")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the other models")
    parser.add_argument(
        "--plane-share", type=float, choices=(1.0, 0.25), default=1.0, help="part of the plane computed"
    )
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args()
    only = tuple(arguments.only)
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{threads}; other models in {arguments.precision}, {arguments.plane_share:g} of the plane\n", flush=True)
    ours = our_case(arguments.repeats) if "ours".startswith(only) else []
    print("| model | network | parameters, M | GFLOP a call | s a call | calls a case | h a case |")
    print("|---|---|--:|--:|--:|--:|--:|", flush=True)
    side, rows = math.sqrt(arguments.plane_share), []
    for network in (*PAPER, *CARDIODIT):
        if f"{network.model} {network.name}".startswith(only):
            rows.append(timed(network, arguments.repeats, side, arguments.precision))
            print(told(rows[-1]), flush=True)
    found = totals(rows, ours)
    print("\n| a case of | s | times ours |\n|---|--:|--:|")
    print(f"| ours | {median(ours):.1f} ({min(ours):.1f}-{max(ours):.1f}) | 1 |" if ours else "| ours | - | - |")
    for model, total in found.items():
        met = f" (target {TARGET:g})" if model == "paper" else ""
        print(f"| {model} | {total['case_s']:.0f} | {total['times_ours']:.0f}{met} |")
    if arguments.json:
        machine = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "platform": platform.platform()}
        settings = {"precision": arguments.precision, "plane_share": arguments.plane_share, "torch": torch.__version__}
        content = {**machine, **settings, "ours_s": ours, "rows": [asdict(row) for row in rows], "totals": found}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
