"""Training speed and memory: our autoencoder beside one of the same size built from diffusers.

All take one optimizer step (forward, backward, AdamW, averaged weights) on the same random images and bits, in
turns, in one process; the table shows the median of the rounds, and the ratio to ours. The peer is the same encoder
and bottleneck with diffusers' ``UNet2DConditionModel`` as the denoiser, its cross-attention fed with one token of the
bits. Its transformer blocks carry a self-attention and a feed-forward layer of their own, so "the same size" has two
meanings, and both are measured: the same channels at every level, and the channels (in steps of 4) that bring the
number of parameters nearest to ours. Compiled, ours is compiled region by region and the peer's U-Net as a whole. The
peak is that of matrix products, measured here.

    python benchmarks/train_step.py --preset fashion-mnist --rounds 10
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import diffusers
import torch
from diffusers import UNet2DConditionModel
from machine import matrix_peak, resident_mib, wait, words
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dmzcli.config import Config, parse, preset
from dmzcli.diffusion.process import Diffusion
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.system.devices import pick
from dmzcli.training.ema import Average, law

SHAPES = {"digits": (8, 1), "fashion-mnist": (32, 1), "cifar10": (32, 3), "cifar10-small": (32, 3)}


class Peer(nn.Module):
    """The same encoder and bottleneck around diffusers' conditional U-Net.

    Arguments:
        config: Resolved.
        channels: Of the U-Net's first level.
    """

    def __init__(self, config: Config, channels: int) -> None:
        super().__init__()
        self.ours = Autoencoder(config)
        size, model = config.data.size, config.model
        del self.ours.unet
        levels = [size >> i for i in range(len(model.multipliers))]
        down = ["CrossAttnDownBlock2D" if r in model.attention else "DownBlock2D" for r in levels]
        up = ["CrossAttnUpBlock2D" if r in model.attention else "UpBlock2D" for r in reversed(levels)]
        self.unet = UNet2DConditionModel(
            sample_size=size,
            in_channels=config.data.channels,
            out_channels=config.data.channels * (2 if config.diffusion.variance == "learned-range" else 1),
            down_block_types=down,
            up_block_types=up,
            block_out_channels=[channels * m for m in model.multipliers],
            layers_per_block=model.blocks,
            cross_attention_dim=2 * model.bits,
            attention_head_dim=model.heads,
            norm_num_groups=4,
            resnet_time_scale_shift=model.time_conditioning.replace("-", "_").replace("additive", "default"),
            dropout=model.dropout,
        )

    def forward(self, x0: Tensor, x_t: Tensor, t: Tensor, gumbel: Tensor) -> Tensor:
        """As :meth:`dmzcli.model.autoencoder.Autoencoder.forward`."""
        pairs = self.ours.latent.relax(self.ours.logits(x0), gumbel)
        return self.unet(x_t, t, encoder_hidden_states=pairs.flatten(1)[:, None]).sample


def parameters(model: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(p.numel() for p in model.parameters())


def matched_peer(config: Config, wanted: int) -> Peer:
    """The peer whose number of parameters comes closest to ``wanted``."""
    candidates = []
    for channels in range(8, 2 * config.model.channels + 1, 4):
        with torch.device("meta"):
            candidates.append((abs(parameters(Peer(config, channels)) - wanted), channels))
    return Peer(config, min(candidates)[1])


def stepper(model: nn.Module, config: Config, device: torch.device, batch: int) -> Callable[[], None]:
    """A function that makes one optimizer step."""
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    average, diffusion = Average(model, law(config.training)), Diffusion(config.diffusion)
    generator = torch.Generator().manual_seed(0)
    shape = (batch, config.data.channels, config.data.size, config.data.size)
    x0 = (torch.rand(shape, generator=generator) * 2 - 1).to(device)
    noise = torch.randn(shape, generator=generator).to(device)
    gumbel = torch.rand(batch, config.model.bits, 2, generator=generator).to(device)
    index = torch.randint(config.diffusion.timesteps, (batch,), generator=generator).to(device)
    low = config.training.precision == "bf16"

    def step() -> None:
        x_t = diffusion.add_noise(x0, index, noise)
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            output = model(x0, x_t, index, gumbel)
            loss = diffusion.losses(output, x0, x_t, index, noise)["loss"].mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(model, 1)
        wait(device)

    return step


def flops_of(make: Callable[[], nn.Module], config: Config) -> float:
    """Operations of one image's forward and backward pass, as :func:`dmzcli.training.cost.flops` counts them."""
    with torch.device("meta"):
        model = make().train()
        shape = (2, config.data.channels, config.data.size, config.data.size)
        x, t, noise = (
            torch.empty(shape),
            torch.zeros(2, dtype=torch.long),
            torch.empty(2, config.model.bits, 2),
        )
    kernel = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with FlopCounterMode(display=False) as counter, kernel:
        model(x, x, t, noise).sum().backward()
    return counter.get_total_flops() / 2


def peak_mib(name: str) -> float:
    """What training steps of one model add to the memory of a fresh process (on a GPU: what they allocate there)."""
    command = [sys.executable, __file__, *sys.argv[1:], "--alone", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def alone(model: nn.Module, config: Config, device: torch.device, batch: int, before: float) -> None:
    """Prints the peak of three steps, for :func:`peak_mib`."""
    step = stepper(model, config, device, batch)
    for _ in range(3):
        step()
    print(
        torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else resident_mib() - before
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="fashion-mnist", choices=sorted(SHAPES))
    parser.add_argument("--batch-size", type=int, nargs="+", default=[64])
    parser.add_argument("--compiled", action="store_true", help="also compiled")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--precision", default="no", choices=["no", "bf16"])
    parser.add_argument("--device")
    parser.add_argument(
        "--alone",
        choices=["dmz", "diffusers-width", "diffusers-parameters"],
        help="only print this model's peak memory, in MiB",
    )
    arguments = parser.parse_args()
    device = pick(arguments.device)
    config = parse(preset(arguments.preset), "preset").resolved(*SHAPES[arguments.preset])
    config = config.model_copy(
        update={"training": config.training.model_copy(update={"precision": arguments.precision})}
    )
    torch.manual_seed(0)
    with torch.device("meta"):
        wanted = parameters(Autoencoder(config))
    makers: dict[str, Callable[[], nn.Module]] = {
        "dmz": lambda: Autoencoder(config),
        "diffusers-width": lambda: Peer(config, config.model.channels),
        "diffusers-parameters": lambda: matched_peer(config, wanted),
    }
    if arguments.alone:
        before = resident_mib()
        alone(makers[arguments.alone](), config, device, arguments.batch_size[0], before)
        return
    memory = {name: peak_mib(name) for name in makers}
    peak = matrix_peak(device, arguments.precision)
    print(
        f"{words(device)}, diffusers {diffusers.__version__}, preset {arguments.preset}, precision "
        f"{arguments.precision}, {arguments.rounds} alternating rounds, seed 0; matrix peak {peak / 1e12:.2f} TFLOP/s; "
        f"memory at batch {arguments.batch_size[0]}, uncompiled\n"
    )
    print(
        "| batch | model | parameters | images/s, median | slowest - fastest round | dmz / this | of the peak "
        "| peak memory, MiB | first step, s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for batch in arguments.batch_size:
        table(makers, config, device, batch, arguments.rounds, arguments.compiled, peak, memory)


def table(
    makers: dict[str, Callable[[], nn.Module]],
    config: Config,
    device: torch.device,
    batch: int,
    rounds: int,
    compiled: bool,
    peak: float,
    memory: dict[str, float],
) -> None:
    """Prints the rows of one batch size; models that the memory does not hold are left out."""
    models: dict[str, nn.Module] = {}
    steps: dict[str, Callable[[], None]] = {}
    begun: dict[str, float] = {}
    for name, make in makers.items():
        for kind in ("", ", compiled") if compiled else ("",):
            start = time.perf_counter()
            try:
                model = make()
                if kind:
                    model.unet.compile() if isinstance(model, Peer) else model.backbone.compile_regions()
                step = stepper(model, config, device, batch)
                step()
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                continue
            models[name + kind], steps[name + kind] = model, step
            begun[name + kind] = time.perf_counter() - start
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    for name, model in models.items():
        rates = sorted(batch / s for s in seconds[name])
        beside = "dmz, compiled" if name.endswith("compiled") else "dmz"
        pairs = zip(seconds.get(beside, []), seconds[name], strict=False)
        ratio = statistics.median(d / o for o, d in pairs) if beside in seconds else math.nan
        rate, kept = statistics.median(rates), memory.get(name)
        print(
            f"| {batch} | {name} | {parameters(model):,} | {rate:.1f} | {rates[0]:.1f} - {rates[-1]:.1f} "
            f"| {ratio:.2f} | {rate * flops_of(makers[name.removesuffix(', compiled')], config) / peak:.1%} "
            f"| {'' if kept is None else f'{kept:.0f}'} | {begun[name]:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
