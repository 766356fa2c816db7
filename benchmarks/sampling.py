"""Sampling speed: our decoding beside diffusers' own pipeline on a U-Net of the same channels.

The peer is an unconditional ``UNet2DModel`` with the same levels, blocks and attention, run by ``DDIMPipeline``; ours
decodes random bits with DDIM at the same number of steps, from its noise streams to uint8 images, with the keys and
values of the bits computed once per image, and for comparison once per step. Rounds alternate in one process; the table
shows medians and the medians of the rounds' ratios.

    python benchmarks/sampling.py --preset fashion-mnist --rounds 7
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import diffusers
import numpy as np
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from torch import Tensor

from dmzcli.autoencoder import Autoencoder
from dmzcli.batches import to_uint8
from dmzcli.config import Config, parse, preset
from dmzcli.devices import pick
from dmzcli.generation import decode
from dmzcli.randomness import ImageNoise
from dmzcli.samplers import create

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


def every_step(model: Autoencoder, bits: np.ndarray, steps: int, device: torch.device) -> np.ndarray:
    """Our decoding without the cache: the bits' keys and values anew at every step."""
    size, channels = model.config.data.size, model.config.data.channels
    codes = torch.from_numpy(bits).to(device)
    noise = ImageNoise(0, range(len(bits)), (channels, size, size), device)

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        return model.unet(x, t, model.bits_context(codes))

    with torch.inference_mode():
        return to_uint8(create("ddim", model.config.diffusion, steps).sample(denoiser, noise))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="fashion-mnist", choices=sorted(SHAPES))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--device")
    arguments = parser.parse_args()
    device, batch = pick(arguments.device), arguments.batch_size
    config = parse(preset(arguments.preset), "preset").resolved(*SHAPES[arguments.preset])
    torch.manual_seed(0)
    models = {
        tokens: Autoencoder(
            config.model_copy(update={"model": config.model.model_copy(update={"tokens": tokens})})
        )
        .to(device)
        .eval()
        for tokens in ("single", "per-bit")
    }
    theirs = peer(config, device)
    bits = np.random.default_rng(0).integers(0, 2, (batch, config.model.bits), np.uint8)
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(
        f"device {device} ({device_name}, {torch.get_num_threads()} threads), torch {torch.__version__}, "
        f"diffusers {diffusers.__version__}, preset {arguments.preset}, batch {batch}, float32, "
        f"{arguments.rounds} alternating rounds, seed 0\n"
    )
    print("| T | model | parameters | images/s, median | slowest - fastest round | dmz / this |")
    print("|---|---|---|---|---|---|")
    for steps in arguments.steps:
        sampler = create("ddim", config.diffusion, steps)
        generator = torch.Generator(device)
        runs: dict[str, tuple[torch.nn.Module, Callable[[], object]]] = {
            "dmz": (
                models["single"],
                lambda s=sampler: decode(models["single"], bits, s, range(batch), 0, batch),
            ),
            "dmz, keys and values every step": (
                models["single"],
                lambda t=steps: every_step(models["single"], bits, t, device),
            ),
            "dmz, a token per bit": (
                models["per-bit"],
                lambda s=sampler: decode(models["per-bit"], bits, s, range(batch), 0, batch),
            ),
            "dmz, a token per bit, keys and values every step": (
                models["per-bit"],
                lambda t=steps: every_step(models["per-bit"], bits, t, device),
            ),
            "diffusers DDIMPipeline": (
                theirs.unet,
                lambda t=steps, g=generator: theirs(
                    batch, generator=g.manual_seed(0), num_inference_steps=t, output_type="np"
                ),
            ),
        }
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _, run in runs.values():
            run()
        for _ in range(arguments.rounds):
            for name, (_, run) in runs.items():
                start = time.perf_counter()
                run()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                seconds[name].append(time.perf_counter() - start)
        for name, (model, _) in runs.items():
            rates = sorted(batch / s for s in seconds[name])
            ratio = statistics.median(s / o for o, s in zip(seconds["dmz"], seconds[name], strict=True))
            size = sum(p.numel() for p in getattr(model, "unet", model).parameters())
            print(
                f"| {steps} | {name} | {size:,} | {statistics.median(rates):.1f} "
                f"| {rates[0]:.1f} - {rates[-1]:.1f} | {ratio:.2f} |"
            )


if __name__ == "__main__":
    main()
