"""Sampling speed: our decoding beside diffusers' own pipeline on a U-Net of the same channels.

The peer is an unconditional ``UNet2DModel`` with the same levels, blocks and attention, run by ``DDIMPipeline``; ours
decodes random bits with DDIM at the same number of steps, from its noise streams to uint8 images, with the keys and
values of the bits computed once per image, and for comparison once per step; on a GPU also without CUDA graphs. Rounds
alternate in one process; the table shows medians and the medians of the rounds' ratios.

    python benchmarks/sampling.py --preset fashion-mnist --rounds 7
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import product

import diffusers
import numpy as np
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from machine import wait, words
from torch import Tensor, nn

from dmzcli.config import Config, parse, preset
from dmzcli.diffusion.samplers import create
from dmzcli.generation.decode import decode
from dmzcli.model import replay
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.system.devices import pick

SHAPES = {"digits": (8, 1), "fashion-mnist": (32, 1), "cifar10": (32, 3), "cifar10-small": (32, 3)}


def peer(config: Config, device: torch.device) -> DDIMPipeline:
    """Diffusers' pipeline around a U-Net of the same channels."""
    size, model = config.data.size, config.model
    levels = [size >> i for i in range(len(model.multipliers))]
    unet = UNet2DModel(
        sample_size=size,
        in_channels=config.data.channels,
        out_channels=config.data.channels,
        down_block_types=["AttnDownBlock2D" if r in model.attention else "DownBlock2D" for r in levels],
        up_block_types=["AttnUpBlock2D" if r in model.attention else "UpBlock2D" for r in reversed(levels)],
        block_out_channels=[model.channels * m for m in model.multipliers],
        layers_per_block=model.blocks,
        attention_head_dim=model.channels // model.heads,
        resnet_time_scale_shift=model.time_conditioning.replace("-", "_").replace("additive", "default"),
        norm_num_groups=min(32, model.channels),
        downsample_type="conv",
    )
    scheduler = DDIMScheduler(
        num_train_timesteps=config.diffusion.timesteps,
        beta_schedule="squaredcos_cap_v2" if config.diffusion.schedule == "cosine" else "linear",
    )
    made = DDIMPipeline(unet.eval(), scheduler).to(device)
    made.set_progress_bar_config(disable=True)
    return made


class Uncached(nn.Module):
    """Our autoencoder without the cache of keys and values: they are computed at every evaluation."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model, self.shape, self.device, self.laid_out = model, model.shape, model.device, model.laid_out

    def denoiser(self, bits: Tensor, precision: str) -> Callable[[Tensor, Tensor], Tensor]:
        """As the autoencoder's."""
        return lambda x, t: self.model.denoiser(bits, precision)(x, t)


def unrecorded(run: Callable[[], object]) -> Callable[[], None]:
    """The same without CUDA graphs, which serve small batches."""

    def made() -> None:
        pixels, replay.PIXELS = replay.PIXELS, 0
        try:
            run()
        finally:
            replay.PIXELS = pixels

    return made


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="fashion-mnist", choices=sorted(SHAPES))
    parser.add_argument("--batch-size", type=int, nargs="+", default=[32])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 50])
    parser.add_argument(
        "--precision", default="no", choices=["no", "bf16"], help="of both; theirs under autocast"
    )
    parser.add_argument("--device")
    arguments = parser.parse_args()
    device, precision = pick(arguments.device), arguments.precision
    config = parse(preset(arguments.preset), "preset").resolved(*SHAPES[arguments.preset])
    torch.manual_seed(0)
    models: dict[str, nn.Module] = {}
    for tokens, name in (("single", "dmz"), ("per-bit", "dmz, a token per bit")):
        changed = config.model.model_copy(update={"tokens": tokens})
        model = Autoencoder(config.model_copy(update={"model": changed})).to(device).eval()
        models |= {name: model, f"{name}, keys and values every step": Uncached(model)}
    theirs, generator = peer(config, device), torch.Generator(device)
    print(
        f"{words(device)}, diffusers {diffusers.__version__}, preset {arguments.preset}, "
        f"precision {precision}, {arguments.rounds} alternating rounds, seed 0\n"
    )
    print("| batch | T | model | parameters | images/s, median | slowest - fastest round | dmz / this |")
    print("|---|---|---|---|---|---|---|")
    for batch, steps in product(arguments.batch_size, arguments.steps):
        bits = np.random.default_rng(0).integers(0, 2, (batch, config.model.bits), np.uint8)
        sampler = create("ddim", config.diffusion, steps)
        runs: dict[str, tuple[nn.Module, Callable[[], object]]] = {
            name: (
                model,
                lambda m=model, b=bits, s=sampler: decode(
                    m, b, s, range(len(b)), 0, len(b), precision=precision
                ),
            )
            for name, model in models.items()
        }

        if device.type == "cuda":
            runs["dmz, no CUDA graphs"] = (models["dmz"], unrecorded(runs["dmz"][1]))

        def pipeline(batch: int = batch, steps: int = steps) -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                theirs(batch, generator=generator.manual_seed(0), num_inference_steps=steps, output_type="np")

        runs["diffusers DDIMPipeline"] = (theirs.unet, pipeline)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _, run in runs.values():
            run()
        for _ in range(arguments.rounds):
            for name, (_, run) in runs.items():
                start = time.perf_counter()
                run()
                wait(device)
                seconds[name].append(time.perf_counter() - start)
        for name, (model, _) in runs.items():
            rates = sorted(batch / s for s in seconds[name])
            ratio = statistics.median(s / o for o, s in zip(seconds["dmz"], seconds[name], strict=True))
            size = sum(
                p.numel()
                for k, p in model.named_parameters()
                if not k.removeprefix("unet.model.").startswith("encoder")
            )
            print(
                f"| {batch} | {steps} | {name} | {size:,} | {statistics.median(rates):.1f} "
                f"| {rates[0]:.1f} - {rates[-1]:.1f} | {ratio:.2f} |"
            )


if __name__ == "__main__":
    main()
